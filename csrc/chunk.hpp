// The work on one chunk, over the eight float64 of an instruction set. Each instruction set's
// source includes this once, after Eight, Floats and what is done with them. All of it is local to
// that source: a linker must not swap the code of one instruction set for another's.
#pragma once

#include <cmath>
#include <cstring>

#include "columns.hpp"
#include "narrow.hpp"

namespace llmagentos {
namespace {

Slice slice_of(const Cohort& cohort, const Group& group, std::size_t start, Scratch scratch) {
    const std::size_t first = group.first;
    return {.rows = &cohort.rows[first],
            .weights = &cohort.weights[first],
            .squares = scratch.squares + first,
            .factors = scratch.factors + first,
            .count = group.count,
            .start = start,
            .lead = cohort.pace.lead};
}

template <bool fresh>
void add_group(double* sums, const Slice& slice, Range part) {
    const bool narrow = is_narrow(slice.rows->element);
    if (narrow) add_narrow_part<fresh>(sums, slice, part);
    if (!narrow) add_part<fresh>(sums, slice, part);
}

std::int64_t count_nonfinite(Row row, Range block) {
    double values[block_size];
    widen_block(values, row, block);
    std::int64_t count = 0;
    for (const double value : values) count += std::isfinite(value) ? 0 : 1;
    return count;
}

// Counting costs nothing where the norm shows that all values are finite. It is made infinite where
// they are not: the square of an s q beyond float32's range may be finite in float64.
void add_stats(RowStats& stats, const Lanes& squares, Row row, Range block) {
    double norm = fold_lanes(squares);
    if (!(norm < suspect_norm)) {
        const std::int64_t nonfinite = count_nonfinite(row, block);
        stats.nonfinite += nonfinite;
        if (nonfinite > 0) norm += infinity;
    }
    stats.squared_norm += norm;
}

// Calls visit(part) for every part of `size` values, which adds its rows and their squares, and
// then adds up the stats.
template <class Visit>
void measure_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, std::size_t size,
                   const Visit& visit) {
    for_each_range(chunk.start, chunk.stop, block_size, [&](Range block) {
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
            scratch.squares[k] = {};
            if (is_narrow(cohort.rows[k].element)) {
                set_factors(scratch.factors[k], cohort.rows[k], cohort.weights[k], block);
            }
        }
        for_each_range(block.start, block.start + block.count, size, visit);
        for (std::size_t k = 0; k < cohort.rows.size(); ++k) {
            add_stats(scratch.stats[k], scratch.squares[k], cohort.rows[k], block);
        }
    });
}

bool is_one_narrow_group(const Cohort& cohort) {
    return cohort.groups.size() == 1 && is_narrow(cohort.rows[0].element);
}

// Calls write(part, sums) with the finished sums of every part: in float64, and in float32 where
// that is what was added.
template <class Write>
void sum_chunk(const Cohort& cohort, Chunk chunk, Scratch scratch, const Write& write) {
    if (is_one_narrow_group(cohort)) {
        return measure_chunk(cohort, chunk, scratch, tile_size, [&](Range tile) {
            alignas(line_bytes) float sums[tile_size];
            const Slice slice = slice_of(cohort, cohort.groups[0], tile.start, scratch);
            add_narrow_tile(sums, slice, tile.count);
            write(tile, sums);
        });
    }
    measure_chunk(cohort, chunk, scratch, cohort.pace.part, [&](Range part) {
        alignas(line_bytes) double sums[block_size];
        if (cohort.groups.empty()) std::memset(sums, 0, part.count * sizeof *sums);
        for (const Group& group : cohort.groups) {
            const auto add = group.first == 0 ? add_group<true> : add_group<false>;
            add(sums, slice_of(cohort, group, part.start, scratch), part);
        }
        write(part, sums);
    });
}

}  // namespace
}  // namespace llmagentos

#include "epilogue.hpp"
