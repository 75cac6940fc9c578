// Squared norms in the order of arithmetic.hpp, taken while the values of a pass lie in shared
// memory. A thread block works on one part of a chunk, tile by tile; the thread block that ends a
// chunk last adds up its blocks, and the one that ends the last chunk adds up the chunks.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda_vectors.cuh"

namespace llmagentos::cuda {
namespace {

constexpr unsigned group_rows = 4;   // rows that are fetched before the first of them is added
constexpr unsigned tile_blocks = 2;  // blocks of block_size values, 8 values a thread
constexpr unsigned tile_threads = tile_blocks * block_size / lane_count;
constexpr std::size_t tile_size = tile_blocks * block_size;
constexpr std::size_t part_size = 4 * tile_size;
constexpr unsigned slot_count = group_rows * tile_blocks;

static_assert(chunk_size % part_size == 0 && row_limit % tile_threads == 0);

constexpr std::size_t parts_of(std::size_t size) { return (size + part_size - 1) / part_size; }
constexpr std::size_t blocks_of(std::size_t size) { return (size + block_size - 1) / block_size; }

// The workspace. Norms lie block by block and chunk by chunk, in each the rows one by one. The
// counters are zero between passes.
struct Parts {
    unsigned* finished;             // chunks, and then the parts of every chunk
    unsigned long long* nonfinite;  // one for every row
    double* blocks;
    double* chunks;
    RowStats* rows;
};

// A slot holds one block of one row. Slots are apart by 8 values more than they hold, so that the
// lanes of different slots lie in different banks. Of a narrow row it holds the values without
// their scales.
struct Stage {
    Floats<lane_count> slots[slot_count][block_size / lane_count + 1];
    float scales[slot_count][block_size / scale_group];
    bool narrow[group_rows];
    double lanes[slot_count * lane_count];
    double fetched[row_limit];

    __device__ void put(unsigned row, const Floats<lane_count>& values) {
        if (threadIdx.x == 0) narrow[row] = false;
        slots[slot_of(row)][threadIdx.x % slot_threads] = values;
    }
    __device__ void put(unsigned row, const Floats<lane_count>& values, float scale) {
        constexpr unsigned scale_threads = scale_group / lane_count;
        if (threadIdx.x == 0) narrow[row] = true;
        slots[slot_of(row)][threadIdx.x % slot_threads] = values;
        if (threadIdx.x % scale_threads == 0) {
            scales[slot_of(row)][threadIdx.x % slot_threads / scale_threads] = scale;
        }
    }

  private:
    static constexpr unsigned slot_threads = block_size / lane_count;

    __device__ unsigned slot_of(unsigned row) const {
        return row * tile_blocks + threadIdx.x / slot_threads;
    }
};

// Rows [first, first + group_rows) of `count` rows of `size` values, of which the tile at `start`
// is staged.
struct Staged {
    std::size_t start, size;
    unsigned first, count;
};

// One lane of the block in a slot.
__device__ double lane_norm(const Stage& stage, unsigned slot, unsigned lane) {
    double sum = 0.0;
    for (unsigned i = 0; i < block_size / lane_count; ++i) {
        const double value = stage.slots[slot][i][lane];
        sum = std::fma(value, value, sum);
    }
    return sum;
}

// The same of a narrow row; the squares of one scale are added in float32, of 16 values each.
__device__ double narrow_lane_norm(const Stage& stage, unsigned slot, unsigned lane) {
    constexpr unsigned values = scale_group / lane_count;
    double sum = 0.0;
    for (unsigned i = 0; i < block_size / lane_count; i += values) {
        const double scale = stage.scales[slot][i / values];
        float squares[2] = {};
        for (unsigned k = i; k < i + values; ++k) {
            const float value = stage.slots[slot][k][lane];
            squares[k % 2] = std::fma(value, value, squares[k % 2]);
        }
        sum += scale * scale * double{squares[0] + squares[1]};
    }
    return sum;
}

// Of the first `present` values of a block.
template <bool narrow>
__device__ unsigned lane_nonfinite(const Stage& stage, unsigned slot, unsigned lane,
                                   std::size_t present) {
    const bool scaled = narrow && stage.narrow[slot / tile_blocks];
    unsigned count = 0;
    for (unsigned i = 0; i < block_size / lane_count && i * lane_count + lane < present; ++i) {
        const float scale = scaled ? stage.scales[slot][i * lane_count / scale_group] : 1.0f;
        count += !is_finite(stage.slots[slot][i][lane] * scale);
    }
    return count;
}

// Counting costs nothing where the norm shows that all values are finite.
template <bool narrow>
__device__ void measure_lane(Stage& stage, const Parts& parts, const Staged& staged) {
    const unsigned slot = threadIdx.x / lane_count, lane = threadIdx.x % lane_count;
    const unsigned row = staged.first + slot / tile_blocks;
    const std::size_t block = staged.start + slot % tile_blocks * block_size;
    if (slot >= slot_count || row >= staged.count) return;
    double norm = narrow && stage.narrow[slot / tile_blocks] ? narrow_lane_norm(stage, slot, lane)
                                                             : lane_norm(stage, slot, lane);
    if (!(norm < suspect_norm) && block < staged.size) {
        const unsigned nonfinite = lane_nonfinite<narrow>(stage, slot, lane, staged.size - block);
        atomicAdd(parts.nonfinite + row, nonfinite);
        if (nonfinite > 0) norm += infinity;
    }
    stage.lanes[threadIdx.x] = norm;
}

__device__ void fold_slot(const Stage& stage, const Parts& parts, const Staged& staged) {
    const unsigned slot = threadIdx.x, row = staged.first + slot / tile_blocks;
    if (slot >= slot_count || row >= staged.count) return;
    std::array<double, lane_count> lanes;
    for (unsigned i = 0; i < lane_count; ++i) lanes[i] = stage.lanes[slot * lane_count + i];
    const std::size_t block = staged.start / block_size + slot % tile_blocks;
    parts.blocks[block * staged.count + row] = fold_lanes(lanes);
}

// The norms of all staged blocks; the slots may be written again after it. `narrow` says
// whether narrow rows may be among them.
template <bool narrow>
__device__ void measure(Stage& stage, const Parts& parts, const Staged& staged) {
    __syncthreads();
    measure_lane<narrow>(stage, parts, staged);
    __syncthreads();
    fold_slot(stage, parts, staged);
}

// True in all threads of the thread block that is the last of `count`; the counter is zero then.
__device__ bool is_last(unsigned* finished, std::size_t count) {
    __shared__ bool last;
    const auto end = static_cast<unsigned>(count) - 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // what this thread block wrote, before the count
        last = atomicInc(finished, end) == end;
        __threadfence();  // the count, before what the others wrote is read
    }
    __syncthreads();
    return last;
}

// Calls write(k, sum of values[i * count + k] over i < items, from first to last) for k < count.
template <class Write>
__device__ void add_in_order(Stage& stage, const double* values, std::size_t items, unsigned count,
                             const Write& write) {
    double sums[row_limit / tile_threads] = {};
    const std::size_t room = row_limit / count;
    for (std::size_t first = 0; first < items; first += room) {
        const std::size_t here = std::min(room, items - first);
        for (std::size_t i = threadIdx.x; i < here * count; i += tile_threads) {
            stage.fetched[i] = __ldcg(values + first * count + i);
        }
        __syncthreads();
        for (unsigned k = threadIdx.x; k < count; k += tile_threads) {
            double& sum = sums[k / tile_threads];
            for (std::size_t i = 0; i < here; ++i) sum += stage.fetched[i * count + k];
        }
        __syncthreads();
    }
    for (unsigned k = threadIdx.x; k < count; k += tile_threads) {
        write(k, sums[k / tile_threads]);
    }
}

// To be called by every thread block of a pass at its end.
__device__ void finish_norms(Stage& stage, const Parts& parts, std::size_t size, unsigned count) {
    constexpr std::size_t chunk_blocks = chunk_size / block_size;
    const std::size_t chunk = blockIdx.x * part_size / chunk_size;
    const std::size_t behind = size - chunk * chunk_size;
    const std::size_t left = behind < chunk_size ? behind : chunk_size;
    if (!is_last(parts.finished + 1 + chunk, parts_of(left))) return;
    add_in_order(stage, parts.blocks + chunk * chunk_blocks * count, blocks_of(left), count,
                 [&](unsigned k, double sum) { parts.chunks[chunk * count + k] = sum; });
    if (!is_last(parts.finished, chunks_of(size))) return;
    add_in_order(stage, parts.chunks, chunks_of(size), count, [&](unsigned k, double sum) {
        const auto nonfinite = atomicExch(parts.nonfinite + k, 0ull);
        parts.rows[k] = {sum, static_cast<std::int64_t>(nonfinite)};
    });
}

}  // namespace
}  // namespace llmagentos::cuda
