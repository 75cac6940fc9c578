// Sorting networks: which pairs of rows are put in order, whatever the values are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace llmagentos {

// Row `low` gets the smaller and row `high` the larger of their two values.
struct Comparator {
    std::uint16_t low, high;
};

// Places [trim, n - trim) of n rows hold what they hold when all are sorted.
// Batcher's odd-even merge sort: Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M;
// without the comparators that no kept place depends on.
std::vector<Comparator> trimmed_network(std::size_t n, std::size_t trim);

}  // namespace llmagentos
