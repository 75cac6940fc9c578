// Distances and inner products of all pairs, and ring sums; trimmed_mean is one of the passes of
// average.cpp.
#include "robust.hpp"

#include <algorithm>
#include <cassert>
#include <memory>
#include <vector>

#include "threads.hpp"

namespace llmagentos {
namespace {

// What a thread adds up. It is not filled here: memory lies near the thread that writes it first.
struct PairSums {
    explicit PairSums(std::size_t n)
        : sums(std::make_unique_for_overwrite<double[]>(n * n)),
          room(std::make_unique_for_overwrite<WideRow[]>(n)) {}

    std::unique_ptr<double[]> sums;
    std::unique_ptr<WideRow[]> room;
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
    std::vector<PairSums> parts;
    for (std::size_t k = crew_of(size, threads); k > 0; --k) parts.emplace_back(n);
    reduce_chunks(
        size, parts,
        [&](Chunk chunk, PairSums& part) {
            std::fill_n(part.sums.get(), n * n, 0.0);
            add(part.sums.get(), part.room.get(), rows, chunk);
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
