// One pass over the rows: sums, norms and finiteness, and what becomes of the sums.
#include "cuda_launch.cuh"
#include "cuda_rows.cuh"
#include "cuda_rules.cuh"
#include "groups.hpp"

namespace llmagentos::cuda {
namespace {

struct Table {
    Row rows[row_limit];
    double weights[row_limit];
    bool last[row_limit];  // of its group, for narrow rows
    unsigned count;
};

// The sums of eight values, and those of a group of narrow rows on its way there.
struct Sums {
    double values[lane_count] = {};
    float group[lane_count] = {};

    __device__ void add(double weight, const Floats<8>& row) {
#pragma unroll
        for (unsigned i = 0; i < lane_count; ++i) {
            values[i] = std::fma(weight, double{row[i]}, values[i]);
        }
    }
    __device__ void add_to_group(float factor, const Floats<8>& row) {
#pragma unroll
        for (unsigned i = 0; i < lane_count; ++i) group[i] = add_narrow(group[i], factor, row[i]);
    }
    __device__ void end_group() {
#pragma unroll
        for (unsigned i = 0; i < lane_count; ++i) {
            values[i] += double{group[i]};
            group[i] = 0.0f;
        }
    }
};

// Adds the rows [first, first + group_rows) from first to last, and stages them. `narrow` says
// whether narrow rows may be among them: their sums would cost the others registers.
template <bool narrow>
__device__ void add_group(Sums& sums, Stage& stage, const Table& table, unsigned first,
                          std::size_t j, std::size_t size) {
    Encoded encoded[group_rows];
#pragma unroll
    for (unsigned k = 0; k < group_rows; ++k) {
        if (first + k < table.count) encoded[k] = fetch(table.rows[first + k], j, size);
    }
#pragma unroll
    for (unsigned k = 0; k < group_rows; ++k) {
        if (first + k >= table.count) break;
        const Element element = table.rows[first + k].element;
        const Floats<8> row = widen(encoded[k], element);
        if (narrow && is_narrow(element)) {
            const float scale = element == Element::int8 ? scale_of(encoded[k]) : 1.0f;
            sums.add_to_group(narrow_factor(table.weights[first + k], scale), row);
            if (table.last[first + k]) sums.end_group();
            stage.put(k, row, scale);
        } else {
            sums.add(table.weights[first + k], row);
            stage.put(k, row);
        }
    }
}

// End is what becomes of the sums: it is called with those of values [j, j + 8).
template <bool narrow, class End>
__global__ void __launch_bounds__(tile_threads, narrow ? 2 : 3)
    pass(const __grid_constant__ Table table, std::size_t size, End end, Parts parts) {
    __shared__ Stage stage;
    const std::size_t first = blockIdx.x * part_size;
    const std::size_t last = std::min(first + part_size, size);
    for (std::size_t start = first; start < last; start += tile_size) {
        const std::size_t j = start + threadIdx.x * lane_count;
        Sums sums;
        for (unsigned k = 0; k < table.count; k += group_rows) {
            add_group<narrow>(sums, stage, table, k, j, size);
            measure<narrow>(stage, parts, {start, size, k, table.count});
        }
        end(j, size, sums);
    }
    if (table.count > 0) finish_norms(stage, parts, size, table.count);
}

struct Drop {
    __device__ void operator()(std::size_t, std::size_t, const Sums&) const {}
};

struct Write {
    float* out;

    __device__ void operator()(std::size_t j, std::size_t size, const Sums& sums) const {
        Floats<8> values;
        for (unsigned i = 0; i < 8; ++i) values[i] = narrow(sums.values[i]);
        store(out, j, size, values);
    }
};

struct WriteStep {
    float* out;
    const float* anchor;
    double lr;

    __device__ void operator()(std::size_t j, std::size_t size, const Sums& sums) const {
        Floats<8> values = load<8>(anchor, j, size);
        for (unsigned i = 0; i < 8; ++i) values[i] = server_step(values[i], sums.values[i], lr);
        store(out, j, size, values);
    }
};

template <class Rule>
struct TakeStep {
    After after;
    Before before;
    Rule rule;

    __device__ void operator()(std::size_t j, std::size_t size, const Sums& sums) const {
#pragma unroll
        for (unsigned half = 0; half < lane_count; half += 4) {
            Floats<4> delta;
            for (unsigned i = 0; i < 4; ++i) delta[i] = narrow(sums.values[half + i]);
            take(rule, after, before, j + half, size, delta);
        }
    }
};

Table table_of(const Rows& rows) {
    if (rows.rows.size() != rows.weights.size() || rows.rows.size() > row_limit) {
        throw std::invalid_argument("rows and weights differ in number, or are too many");
    }
    Table table;
    table.count = static_cast<unsigned>(rows.rows.size());
    std::ranges::copy(rows.rows, table.rows);
    std::ranges::transform(rows.weights, table.weights, exact_weight);
    std::ranges::fill(table.last, false);
    for (const Group& group : groups_of(rows.rows, 1))
        table.last[group.first + group.count - 1] = true;
    return table;
}

template <class End>
void launch_pass(std::size_t size, const Rows& rows, cudaStream_t stream, const End& end) {
    const Table table = table_of(rows);
    if (size == 0) {
        check(cudaMemsetAsync(rows.stats, 0, table.count * sizeof(RowStats), stream));
        return;
    }
    const Parts parts = parts_at(rows.workspace, {size, table.count}, rows.stats);
    const auto is_narrow_row = [](Row row) { return is_narrow(row.element); };
    const bool narrow = std::ranges::any_of(rows.rows, is_narrow_row);
    launch(narrow ? pass<true, End> : pass<false, End>, parts_of(size), tile_threads, stream, table,
           size, end, parts);
}

}  // namespace

std::size_t workspace_bytes(std::size_t size, std::size_t rows) {
    const Counts counts{size, rows};
    return counts.finished() * sizeof(unsigned) +
           (rows + counts.blocks() + counts.chunks()) * sizeof(double);
}

void inspect(std::size_t size, const Rows& rows, cudaStream_t stream) {
    launch_pass(size, rows, stream, Drop{});
}

void weighted_sum(float* out, std::size_t size, const Rows& rows, cudaStream_t stream) {
    launch_pass(size, rows, stream, Write{out});
}

void average_step(float* out, const float* anchor, double lr, std::size_t size, const Rows& rows,
                  cudaStream_t stream) {
    launch_pass(size, rows, stream, WriteStep{out, anchor, lr});
}

void average_and_step(After after, Before before, Momentum rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream) {
    launch_pass(size, rows, stream, TakeStep<Momentum>{after, before, rule});
}

void average_and_step(After after, Before before, Adam rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream) {
    launch_pass(size, rows, stream, TakeStep<Adam>{after, before, rule});
}

void average_and_step(After after, Before before, Yogi rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream) {
    launch_pass(size, rows, stream, TakeStep<Yogi>{after, before, rule});
}

void average_and_step(After after, Before before, Adagrad rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream) {
    launch_pass(size, rows, stream, TakeStep<Adagrad>{after, before, rule});
}

}  // namespace llmagentos::cuda
