#include "network.hpp"

#include <algorithm>
#include <cassert>

namespace llmagentos {
namespace {

// Sorted runs of p rows become sorted runs of 2 p: one pass for each distance p, p / 2, ..., 1. The
// rows behind the last one count as infinite: what would compare with them is left out.
void append_merges(std::vector<Comparator>& network, std::size_t n, std::size_t p) {
    for (std::size_t distance = p; distance > 0; distance /= 2) {
        const std::size_t first = distance % p;
        for (std::size_t i = first; i + distance < n; ++i) {
            const bool lower = (i - first) / distance % 2 == 0;
            const bool one_run = i / (2 * p) == (i + distance) / (2 * p);
            if (!lower || !one_run) continue;
            network.push_back(
                {static_cast<std::uint16_t>(i), static_cast<std::uint16_t>(i + distance)});
        }
    }
}

}  // namespace

std::vector<Comparator> trimmed_network(std::size_t n, std::size_t trim) {
    assert(2 * trim < n && n <= UINT16_MAX);
    std::vector<Comparator> network;
    for (std::size_t p = 1; p < n; p *= 2) append_merges(network, n, p);
    std::vector<bool> read(n);
    std::fill(read.begin() + static_cast<std::ptrdiff_t>(trim),
              read.end() - static_cast<std::ptrdiff_t>(trim), true);
    std::vector<Comparator> kept;
    for (auto each = network.rbegin(); each != network.rend(); ++each) {
        if (!read[each->low] && !read[each->high]) continue;
        kept.push_back(*each);
        read[each->low] = read[each->high] = true;
    }
    return {kept.rbegin(), kept.rend()};
}

}  // namespace llmagentos
