// Which rows of a pass are read together.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels.hpp"

namespace llmagentos {

// Rows [first, first + count), of one type.
struct Group {
    std::size_t first, count;
};

// Groups of about the same size, the larger ones first, in the order of the rows: 20 rows of int8
// are 10 + 10, not 16 + 4. `limit` is the most rows of a group; narrow rows have a limit of their
// own, as the bits of their sum depend on it.
inline std::vector<Group> groups_of(std::span<const Row> rows, std::size_t limit) {
    std::vector<Group> groups;
    for (std::size_t first = 0; first < rows.size();) {
        const Element element = rows[first].element;
        std::size_t last = first;
        while (last < rows.size() && rows[last].element == element) ++last;
        const std::size_t most = is_narrow(element) ? narrow_rows : limit;
        for (std::size_t left = (last - first + most - 1) / most; left > 0; --left) {
            const std::size_t count = (last - first + left - 1) / left;
            groups.push_back({first, count});
            first += count;
        }
    }
    return groups;
}

}  // namespace llmagentos
