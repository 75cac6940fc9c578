// Order statistics of one chunk: the rows of a part are sorted value by value in the first cache,
// runs of run_limit rows in registers, and the runs are merged.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "narrow.hpp"
#include "network.hpp"

namespace llmagentos {
namespace {

// So many rows are sorted in parts of 128 values, more rows in parts of 64: what the first cache
// has room for.
constexpr std::size_t few_rows = 48;

template <std::size_t width>
using SortedRow = float[width];

// Cache lines of all rows that are asked for one by one, `lines` of each row, until all have been.
// What is asked for may lie behind the end of a row: that is no access.
template <std::size_t lines>
class Ahead {
  public:
    Ahead(std::span<const Row> rows, std::size_t start) : rows_(rows), start_(start) { turn(); }

    [[gnu::always_inline]] void ask() {
        if (left_ == 0) return;
        __builtin_prefetch(place_, 0, 2);
        place_ += line_bytes;
        if (--left_ == 0) turn();
    }

  private:
    // To the next row, if there is one.
    void turn() {
        if (next_ == rows_.size()) return;
        left_ = lines;
        place_ = at(rows_[next_++], start_);
    }

    std::span<const Row> rows_;
    std::size_t start_, next_ = 0, left_ = 0;
    const std::byte* place_ = nullptr;
};

template <std::size_t width>
using PartAhead = Ahead<width / floats_per_line>;

template <Element element, std::size_t width>
void load_sortable(float* sorted, const std::byte* values) {
    for (std::size_t j = 0; j < width; j += floats_at_once) {
        const std::byte* place = values + j * bytes_of(element);
        if constexpr (is_narrow(element)) {
            store_floats(sorted + j, sortable(widen_narrow<element>(place)));
        } else {
            store_floats(sorted + j, sortable(load_floats(reinterpret_cast<const float*>(place))));
        }
    }
}

template <std::size_t width>
void measure_floats(Lanes& squares, const std::byte* values) {
    Eight square = load(squares.data());
    for (std::size_t j = 0; j < width; j += lane_count) {
        const Eight x = widen<Element::float32>(values + j * sizeof(float));
        square = add_exact(square, x, x);
    }
    store(squares.data(), square);
}

// The squares of narrow rows are left to measure_narrow. int8 is decoded in the room.
template <std::size_t width>
void load_sortable(float* sorted, Lanes& squares, Row row, Range part) {
    Room room;
    const std::byte* values = place_of(row, part, width, room);
    if (row.element == Element::float16) {
        load_sortable<Element::float16, width>(sorted, values);
    } else if (row.element == Element::bfloat16) {
        load_sortable<Element::bfloat16, width>(sorted, values);
    } else {
        if (row.element == Element::float32) measure_floats<width>(squares, values);
        load_sortable<Element::float32, width>(sorted, values);
    }
}

void exchange(Floats& low, Floats& high) {
    const Floats a = low, b = high;
    low = smaller(a, b);
    high = larger(a, b);
}

template <std::size_t width>
void exchange(float* low, float* high) {
#pragma GCC unroll 8
    for (std::size_t j = 0; j < width; j += floats_at_once) {
        Floats a = load_floats(low + j), b = load_floats(high + j);
        exchange(a, b);
        store_floats(low + j, a);
        store_floats(high + j, b);
    }
}

template <std::size_t n, std::size_t... c>
[[gnu::always_inline]] inline void sort_in_registers([[maybe_unused]] Floats* rows,
                                                     std::index_sequence<c...>) {
    (exchange(rows[sorting_network<n>[c].low], rows[sorting_network<n>[c].high]), ...);
}

template <std::size_t n, std::size_t width>
void sort_run(SortedRow<width>* rows, PartAhead<width>* ahead) {
    constexpr std::make_index_sequence<comparators_to_sort<n>> comparators;
    for (std::size_t j = 0; j < width; j += floats_at_once) {
        Floats here[n];
#pragma GCC unroll 16
        for (std::size_t k = 0; k < n; ++k) {
            if (ahead) ahead->ask();
            here[k] = load_floats(rows[k] + j);
        }
        sort_in_registers<n>(here, comparators);
#pragma GCC unroll 16
        for (std::size_t k = 0; k < n; ++k) store_floats(rows[k] + j, here[k]);
    }
}

template <std::size_t width, std::size_t... n>
void sort_run(std::index_sequence<n...>, SortedRow<width>* rows, std::size_t count,
              PartAhead<width>* ahead) {
    static constexpr void (*by_count[])(SortedRow<width>*,
                                        PartAhead<width>*) = {sort_run<n + 1, width>...};
    by_count[count - 1](rows, ahead);
}

// Lines are asked for in whichever stage is long enough to hide them.
template <std::size_t width>
void sort(SortedRow<width>* rows, std::size_t n, std::span<const Comparator> network,
          PartAhead<width>& ahead) {
    constexpr std::make_index_sequence<run_limit> counts;
    const bool many = network.size() > n * width / floats_per_line;
    for_each_range(0, n, run_limit, [&](Range run) {
        sort_run(counts, rows + run.start, run.count, many ? nullptr : &ahead);
    });
    for (const Comparator each : network) {
        ahead.ask();
        exchange<width>(rows[each.low], rows[each.high]);
    }
}

// The mean of `count` rows, added from the first to the last.
template <std::size_t width>
void write_mean(float* __restrict mean, const SortedRow<width>* rows, std::size_t count) {
    constexpr std::size_t step = 32;
    const double share = 1.0 / static_cast<double>(count);
    for (std::size_t start = 0; start < width; start += step) {
        double sums[step];
        for (std::size_t j = 0; j < step; ++j) sums[j] = double{rows[0][start + j]};
        for (std::size_t k = 1; k < count; ++k) {
            for (std::size_t j = 0; j < step; ++j) sums[j] += double{rows[k][start + j]};
        }
        for (std::size_t j = 0; j < step; ++j) mean[start + j] = narrow(sums[j] * share);
    }
}

// The squares of the narrow rows, for the values of a tile.
void measure_narrow(const Cohort& cohort, std::size_t start, Chunk chunk, Scratch scratch) {
    alignas(line_bytes) float unread[tile_size];
    const std::size_t count = std::min(chunk.stop - start, tile_size);
    for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
        if (!is_narrow(cohort.rows[k].element)) continue;
        add_narrow_tile(unread, slice_of(cohort, {k, 1}, start, scratch), count);
    }
}

template <std::size_t width>
void trimmed_mean_in_parts(std::span<float> out, const Order& order, const Cohort& cohort,
                           Chunk chunk, Scratch scratch) {
    const std::size_t n = cohort.rows.size();
    Output output(out, chunk.start);
    measure_chunk(cohort, chunk, scratch, width, [&](Range part) {
        if (part.start % scale_group == 0) {
            measure_narrow(cohort, part.start, chunk, scratch);
        }
        alignas(line_bytes) SortedRow<width> rows[sorted_rows_limit];
        for (std::size_t k = 0; k < n; ++k) {
            load_sortable<width>(rows[k], scratch.squares[k], cohort.rows[k], part);
        }
        PartAhead<width> ahead(cohort.rows, part.start + 2 * width);
        sort<width>(rows, n, order.network, ahead);
        write_mean<width>(output.room(), rows + order.trim, n - 2 * order.trim);
        output.put(part.count);
    });
    output.finish();
}

void trimmed_mean(std::span<float> out, const Order& order, const Cohort& cohort, Chunk chunk,
                  Scratch scratch) {
    const bool few = cohort.rows.size() <= few_rows;
    const auto in_parts = few ? trimmed_mean_in_parts<128> : trimmed_mean_in_parts<64>;
    in_parts(out, order, cohort, chunk, scratch);
}

}  // namespace
}  // namespace llmagentos
