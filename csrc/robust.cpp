// Distances and inner products of all pairs, and ring sums; trimmed_mean is one of the passes of
// average.cpp.
#include "robust.hpp"

#include <algorithm>
#include <cassert>
#include <vector>

#include "threads.hpp"

namespace llmagentos {
namespace {

struct PairSums {
    std::vector<double> sums;
    std::vector<WideRow> room;
};

void mirror(std::span<double> matrix, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < i; ++k) matrix[i * n + k] = matrix[k * n + i];
    }
}

void sum_pairs(std::span<double> matrix, std::span<const Row> rows, std::size_t size,
               unsigned threads, SumPairs add) {
    const std::size_t n = rows.size();
    assert(matrix.size() == n * n);
    std::fill(matrix.begin(), matrix.end(), 0.0);
    reduce_chunks(
        size, threads,
        [&] { return PairSums{std::vector<double>(n * n), std::vector<WideRow>(n)}; },
        [&](Chunk chunk, PairSums& part) {
            std::fill(part.sums.begin(), part.sums.end(), 0.0);
            add(part.sums.data(), part.room.data(), rows, chunk);
        },
        [&](const PairSums& part) {
            for (std::size_t i = 0; i < n * n; ++i) matrix[i] += part.sums[i];
        });
    mirror(matrix, n);
}

}  // namespace

void squared_distances(std::span<double> distances, std::span<const Row> rows, std::size_t size,
                       Workers workers) {
    sum_pairs(distances, rows, size, workers.threads, workers.instructions.squared_distances);
}

void inner_products(std::span<double> products, std::span<const Row> rows, std::size_t size,
                    Workers workers) {
    sum_pairs(products, rows, size, workers.threads, workers.instructions.inner_products);
}

void ring_sum(std::span<std::uint32_t> out, std::span<const std::byte* const> rows,
              Workers workers) {
    for_each_chunk(out.size(), workers.threads,
                   [&](Chunk chunk) { workers.instructions.ring_sum(out, rows, chunk); });
}

}  // namespace llmagentos
