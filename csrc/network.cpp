#include "network.hpp"

#include <algorithm>
#include <cassert>

namespace llmagentos {

std::vector<Comparator> trimmed_network(std::size_t n, std::size_t trim, std::size_t run) {
    assert(2 * trim < n && n <= UINT16_MAX);
    std::vector<Comparator> network;
    for (std::size_t p = run; p < n; p *= 2) {
        merge_runs(n, p, [&](Comparator each) { network.push_back(each); });
    }
    const auto margin = static_cast<std::ptrdiff_t>(trim);
    std::vector<bool> read(n);
    std::fill(read.begin() + margin, read.end() - margin, true);
    std::vector<Comparator> kept;
    for (auto each = network.rbegin(); each != network.rend(); ++each) {
        if (!read[each->low] && !read[each->high]) continue;
        kept.push_back(*each);
        read[each->low] = read[each->high] = true;
    }
    return {kept.rbegin(), kept.rend()};
}

}  // namespace llmagentos
