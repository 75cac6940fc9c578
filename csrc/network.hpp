// Sorting networks: which pairs of rows are put in order, whatever the values are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace llmagentos {

// Row `low` gets the smaller and row `high` the larger of their two values.
struct Comparator {
    std::uint16_t low, high;
};

// Batcher's odd-even merge sort: Knuth, The Art of Computer Programming 3, 5.2.2. Calls visit for
// the comparators that make sorted runs of 2 p rows from sorted runs of p: one pass for each
// distance p, p / 2, ..., 1. The rows behind the last one count as infinite: what would compare
// with them is left out.
template <class Visit>
constexpr void merge_runs(std::size_t n, std::size_t p, const Visit& visit) {
    for (std::size_t distance = p; distance > 0; distance /= 2) {
        const std::size_t first = distance % p;
        for (std::size_t i = first; i + distance < n; ++i) {
            const bool lower = (i - first) / distance % 2 == 0;
            const bool one_run = i / (2 * p) == (i + distance) / (2 * p);
            if (!lower || !one_run) continue;
            visit(Comparator{static_cast<std::uint16_t>(i),
                             static_cast<std::uint16_t>(i + distance)});
        }
    }
}

template <std::size_t n>
constexpr std::size_t comparators_to_sort = [] {
    std::size_t count = 0;
    for (std::size_t p = 1; p < n; p *= 2) merge_runs(n, p, [&](Comparator) { ++count; });
    return count;
}();

// What sorts n rows.
template <std::size_t n>
constexpr auto sorting_network = [] {
    std::array<Comparator, comparators_to_sort<n>> network{};
    std::size_t next = 0;
    for (std::size_t p = 1; p < n; p *= 2) {
        merge_runs(n, p, [&](Comparator each) { network[next++] = each; });
    }
    return network;
}();

// Given sorted runs of `run` of n rows, with the rest of them as the last run: afterwards the
// places [trim, n - trim) hold what they hold when all are sorted. Comparators on which no such
// place depends are left out. `run` is a power of 2.
std::vector<Comparator> trimmed_network(std::size_t n, std::size_t trim, std::size_t run);

}  // namespace llmagentos
