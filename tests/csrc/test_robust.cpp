// The kernels of robust.hpp on awkward lengths, types, addresses and threads. Meant for the
// sanitizers; the comparison with the plain reference, bit by bit, is in Python.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "instructions.hpp"
#include "rows.hpp"

using namespace llmagentos;

namespace {

constexpr std::array<std::size_t, 7> sizes = {0, 1, 63, 64, 1025, 65537, 140001};

struct Crowd {
    std::vector<RandomRow> memory;
    std::vector<Row> rows;
};

Crowd random_crowd(std::size_t size, std::size_t n, std::mt19937& generator) {
    Crowd crowd;
    for (std::size_t k = 0; k < n; ++k) {
        const auto element = static_cast<Element>(generator() % 4);
        crowd.memory.emplace_back(size, element, generator() % 8, generator);
    }
    for (const RandomRow& row : crowd.memory) crowd.rows.push_back(row.row());
    return crowd;
}

float plain_trimmed_mean(const std::vector<Row>& rows, std::size_t j, std::size_t trim) {
    std::vector<float> values;
    for (const Row row : rows) {
        const float value = value_of(row, j);
        values.push_back((std::isnan(value) ? infinity : value) + 0.0f);
    }
    std::sort(values.begin(), values.end());
    double sum = values[trim];
    for (std::size_t k = trim + 1; k < rows.size() - trim; ++k) sum += values[k];
    return narrow(sum * (1.0 / static_cast<double>(rows.size() - 2 * trim)));
}

void test_order(const InstructionSet& instructions, std::size_t size, const Crowd& crowd) {
    const std::size_t n = crowd.rows.size();
    for (const std::size_t trim : {std::size_t{0}, (n - 1) / 2}) {
        std::vector<float> expected(size);
        for (std::size_t j = 0; j < size; ++j) {
            expected[j] = plain_trimmed_mean(crowd.rows, j, trim);
        }
        for (const unsigned threads : {1u, 3u}) {
            std::vector<float> out(size);
            std::vector<RowStats> stats(n);
            trimmed_mean(out, crowd.rows, trim, stats, {threads, instructions});
            expect(same_bits(out, expected), "trimmed_mean sorts");
            const RowStats alone = inspect(crowd.rows[0], size, {1, instructions});
            expect(stats[0].nonfinite == alone.nonfinite, "both passes count alike");
        }
    }
}

void test_pairs(const InstructionSet& instructions, std::size_t size, const Crowd& crowd) {
    const std::size_t n = crowd.rows.size();
    for (const auto of_pairs : {squared_distances, inner_products}) {
        std::vector<double> one(n * n), three(n * n);
        of_pairs(one, crowd.rows, size, {1, instructions});
        of_pairs(three, crowd.rows, size, {3, instructions});
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t k = 0; k < n; ++k) {
                const double here = one[i * n + k], there = three[i * n + k];
                const bool both_nan = std::isnan(here) && std::isnan(there);
                expect(both_nan || here == there, "1 thread = 3");
                expect(both_nan || here == one[k * n + i] || std::isnan(here), "symmetric");
            }
        }
    }
}

void test_ring(const InstructionSet& instructions, std::size_t size, std::size_t n,
               std::mt19937& generator) {
    std::vector<RandomRow> memory;
    std::vector<const std::byte*> rows;
    std::vector<std::uint32_t> expected(size);
    for (std::size_t k = 0; k < n; ++k) {
        memory.emplace_back(size, Element::float32, generator() % 8, generator);
        const std::byte* values = memory.back().row().values;
        rows.push_back(values);
        for (std::size_t j = 0; j < size; ++j) {
            std::uint32_t value;
            std::memcpy(&value, values + 4 * j, sizeof value);
            expected[j] += value;
        }
    }
    std::vector<std::uint32_t> out(size);
    ring_sum(out, rows, {3, instructions});
    expect(same_bits(out, expected), "ring_sum wraps around");
}

void test_networks_keep_the_middle() {
    for (std::size_t n = 1; n <= 10; ++n) {
        for (std::size_t trim = 0; 2 * trim < n; ++trim) {
            const auto network = trimmed_network(n, trim, 1);
            for (std::uint32_t bits = 0; bits < (1u << n); ++bits) {
                std::vector<std::uint32_t> rows(n);
                for (std::size_t k = 0; k < n; ++k) rows[k] = bits >> k & 1u;
                for (const auto [low, high] : network) {
                    if (rows[low] > rows[high]) std::swap(rows[low], rows[high]);
                }
                const auto ones = static_cast<std::size_t>(std::popcount(bits));
                for (std::size_t k = trim; k < n - trim; ++k) {
                    expect(rows[k] == (k >= n - ones ? 1u : 0u), "a network sorts 0 and 1");
                }
            }
        }
    }
}

}  // namespace

int main() {
    std::mt19937 generator(0);
    test_networks_keep_the_middle();
    for (const InstructionSet* instructions : instruction_sets()) {
        for (const std::size_t size : sizes) {
            for (const std::size_t n : {1, 2, 7, 18}) {
                const Crowd crowd = random_crowd(size, n, generator);
                test_order(*instructions, size, crowd);
                test_pairs(*instructions, size, crowd);
                test_ring(*instructions, size, n, generator);
            }
        }
        std::printf("%s: all expectations hold\n", instructions->name.data());
    }
}
