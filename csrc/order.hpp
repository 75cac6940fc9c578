// Order statistics of one chunk: the rows of a part are sorted value by value in the first cache.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <limits>

#include "network.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t order_width = 64;
constexpr std::size_t order_ahead = 2;

using Sorted = float[order_width];

// Cache lines of all rows that are asked for one by one, `lines` of each row.
template <std::size_t lines>
class Ahead {
  public:
    Ahead(std::span<const Row> rows, std::size_t start) {
        for (std::size_t k = 0; k < rows.size(); ++k) values_[k] = at(rows[k], start);
        last_ = rows.size() * lines;
    }

    [[gnu::always_inline]] void ask() {
        if (next_ == last_) return;
        __builtin_prefetch(values_[next_ / lines] + next_ % lines * line_bytes, 0, 2);
        ++next_;
    }

  private:
    const std::byte* values_[sorted_rows_limit];
    std::size_t next_ = 0, last_;
};

// Values that min and max put in order whatever the order of their arguments: NaN counts as Inf and
// -0 as 0.
constexpr float sortable(float value) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    return (value < inf ? value : inf) + 0.0f;
}

template <Element element>
void load_sortable(float* __restrict room, Lanes& squares, const std::byte* values) {
    double wide[order_width];
    Eight square = load(squares.data());
    for (std::size_t j = 0; j < order_width; j += lane_count) {
        const Eight x = widen<element>(values + j * bytes_of(element));
        square = add_exact(square, x, x);
        if constexpr (element != Element::float32) store(wide + j, x);
    }
    store(squares.data(), square);
    if constexpr (element == Element::float32) {
        std::memcpy(room, values, sizeof(Sorted));
        for (std::size_t j = 0; j < order_width; ++j) room[j] = sortable(room[j]);
    } else {
        for (std::size_t j = 0; j < order_width; ++j) {
            room[j] = sortable(static_cast<float>(wide[j]));
        }
    }
}

void load_sortable(float* room, Lanes& squares, Row row, Span part) {
    Padded padded;
    const bool whole = part.count == order_width;
    const std::byte* values = whole ? at(row, part.start) : padded.copy(0, row, part);
    if (row.element == Element::float32) {
        load_sortable<Element::float32>(room, squares, values);
    } else if (row.element == Element::float16) {
        load_sortable<Element::float16>(room, squares, values);
    } else {
        load_sortable<Element::bfloat16>(room, squares, values);
    }
}

constexpr float smaller(float a, float b) { return a < b ? a : b; }
constexpr float larger(float a, float b) { return a > b ? a : b; }

void exchange(float* __restrict low, float* __restrict high) {
    for (std::size_t j = 0; j < order_width; ++j) {
        const float a = low[j], b = high[j];
        low[j] = smaller(a, b);
        high[j] = larger(a, b);
    }
}

// The mean of `count` rows, added from the first to the last.
void write_mean(float* __restrict room, const Sorted* rows, std::size_t count) {
    double sums[order_width];
    for (std::size_t j = 0; j < order_width; ++j) sums[j] = double{rows[0][j]};
    for (std::size_t k = 1; k < count; ++k) {
        for (std::size_t j = 0; j < order_width; ++j) sums[j] += double{rows[k][j]};
    }
    const double share = 1.0 / static_cast<double>(count);
    for (std::size_t j = 0; j < order_width; ++j) room[j] = narrow(sums[j] * share);
}

void trimmed_mean(std::span<float> out, const Order& order, const Cohort& all, Chunk chunk,
                  Scratch scratch) {
    const Cohort cohort{all.rows, all.weights, all.groups, {order_width, 0}};
    const std::size_t n = cohort.rows.size();
    Output output(out, chunk.start);
    measure_chunk(cohort, chunk, scratch, [&](Span part) {
        alignas(line_bytes) Sorted rows[sorted_rows_limit];
        for (std::size_t k = 0; k < n; ++k) {
            load_sortable(rows[k], scratch.squares[k], cohort.rows[k], part);
        }
        Ahead<order_width / floats_per_line> ahead(cohort.rows,
                                                   part.start + order_ahead * order_width);
        for (const Comparator& each : order.network) {
            ahead.ask();
            exchange(rows[each.low], rows[each.high]);
        }
        for (std::size_t line = 0; line < 4 * n; ++line) ahead.ask();
        write_mean(output.room(), rows + order.trim, n - 2 * order.trim);
        output.put(part.count);
    });
    output.finish();
}

}  // namespace
}  // namespace llmagentos
