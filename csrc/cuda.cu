// One thread block works on one chunk; the block that ends last adds up what the chunks gave.
#include <cmath>
#include <stdexcept>
#include <string>

#include "cuda.hpp"

namespace llmagentos::cuda {
namespace {

// One thread for every lane of every block of a chunk.
constexpr unsigned block_threads = chunk_size / block_size * lane_count;

struct Table {
    const std::byte* values[row_limit];
    double weights[row_limit];
    Element elements[row_limit];
    unsigned count;
};

struct Vectors {
    float* out;
    const float* anchor;
    double lr;
    std::size_t size;
};

// The workspace: a counter of finished chunks, then one RowStats per chunk and row.
struct Parts {
    unsigned* finished;
    RowStats* of_chunks;
    RowStats* of_rows;
};

__device__ float value_at(const Table& table, unsigned k, std::size_t j) {
    const std::byte* values = table.values[k];
    if (table.elements[k] == Element::float32) return reinterpret_cast<const float*>(values)[j];
    const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(values)[j];
    return table.elements[k] == Element::float16 ? from_float16(bits) : from_bfloat16(bits);
}

__device__ void write_sums(const Table& table, const Vectors& vectors, std::size_t start,
                           std::size_t stop) {
    for (std::size_t j = start + threadIdx.x; j < stop; j += block_threads) {
        double sum = 0.0;
        for (unsigned k = 0; k < table.count; ++k) {
            sum += table.weights[k] * double{value_at(table, k, j)};
        }
        vectors.out[j] =
            vectors.anchor ? server_step(vectors.anchor[j], sum, vectors.lr) : narrow(sum);
    }
}

// The lane of this thread, and how many of its values are not finite.
__device__ RowStats lane_stats(const Table& table, unsigned k, std::size_t start,
                               std::size_t stop) {
    RowStats lane;
    const std::size_t block = start + threadIdx.x / lane_count * block_size;
    for (std::size_t i = threadIdx.x % lane_count; i < block_size; i += lane_count) {
        if (block + i >= stop) break;
        const float value = value_at(table, k, block + i);
        lane.squared_norm += double{value} * double{value};
        lane.nonfinite += !is_finite(value);
    }
    return lane;
}

// Adds up the lanes of all threads, in the order of arithmetic.hpp; true in thread 0 only.
__device__ RowStats chunk_stats(RowStats* lanes, RowStats mine) {
    lanes[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned width = lane_count / 2; width > 0; width /= 2) {
        if (threadIdx.x % lane_count < width) {
            lanes[threadIdx.x].squared_norm += lanes[threadIdx.x + width].squared_norm;
            lanes[threadIdx.x].nonfinite += lanes[threadIdx.x + width].nonfinite;
        }
        __syncthreads();
    }
    RowStats sum;
    if (threadIdx.x == 0) {
        for (unsigned i = 0; i < block_threads; i += lane_count) {
            sum.squared_norm += lanes[i].squared_norm;
            sum.nonfinite += lanes[i].nonfinite;
        }
    }
    __syncthreads();
    return sum;
}

// True in all threads of the block that is the last to finish; the counter is zero again then.
__device__ bool is_last(unsigned* finished) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
    __syncthreads();
    return last;
}

__global__ void __launch_bounds__(block_threads)
    pass(const __grid_constant__ Table table, Vectors vectors, Parts parts) {
    __shared__ RowStats lanes[block_threads];
    const std::size_t start = blockIdx.x * chunk_size;
    const std::size_t stop = min(start + chunk_size, vectors.size);
    write_sums(table, vectors, start, stop);
    for (unsigned k = 0; k < table.count; ++k) {
        const RowStats sum = chunk_stats(lanes, lane_stats(table, k, start, stop));
        if (threadIdx.x == 0) parts.of_chunks[blockIdx.x * table.count + k] = sum;
    }
    if (!is_last(parts.finished)) return;
    for (unsigned k = threadIdx.x; k < table.count; k += block_threads) {
        RowStats sum;
        for (unsigned chunk = 0; chunk < gridDim.x; ++chunk) {
            const volatile RowStats& part = parts.of_chunks[chunk * table.count + k];
            sum.squared_norm += part.squared_norm;
            sum.nonfinite += part.nonfinite;
        }
        parts.of_rows[k] = sum;
    }
}

template <class Work>
__global__ void each_value(std::size_t size, Work work) {
    const std::size_t j = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (j < size) work(j);
}

void check(cudaError_t status) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

template <class Work>
void for_each_value(std::size_t size, cudaStream_t stream, Work work) {
    constexpr std::size_t width = 256;
    if (size == 0) return;
    each_value<<<static_cast<unsigned>((size + width - 1) / width), width, 0, stream>>>(size, work);
    check(cudaGetLastError());
}

Table table_of(const Rows& rows) {
    if (rows.rows.size() != rows.weights.size() || rows.rows.size() > row_limit) {
        throw std::invalid_argument("rows and weights differ in number, or are more than 1024");
    }
    Table table;
    table.count = static_cast<unsigned>(rows.rows.size());
    for (unsigned k = 0; k < table.count; ++k) {
        table.values[k] = rows.rows[k].values;
        table.weights[k] = exact_weight(rows.weights[k]);
        table.elements[k] = rows.rows[k].element;
    }
    return table;
}

void launch_pass(Vectors vectors, const Rows& rows, cudaStream_t stream) {
    const Table table = table_of(rows);
    if (vectors.size == 0) {
        check(cudaMemsetAsync(rows.stats, 0, table.count * sizeof(RowStats), stream));
        return;
    }
    const Parts parts{reinterpret_cast<unsigned*>(rows.workspace),
                      reinterpret_cast<RowStats*>(rows.workspace + 8), rows.stats};
    const auto chunks = static_cast<unsigned>(chunks_of(vectors.size));
    pass<<<chunks, block_threads, 0, stream>>>(table, vectors, parts);
    check(cudaGetLastError());
}

template <class Rule>
void adaptive(After after, Before before, std::size_t size, Rule rule, cudaStream_t stream) {
    for_each_value(size, stream, [=] __device__(std::size_t j) {
        const float m = rule.first_moment(before.m[j], before.delta[j]);
        const float v = rule.second_moment(before.v[j], before.delta[j]);
        after.w[j] = rule.weight(before.w[j], m, std::sqrt(double{v}));
        after.m[j] = m;
        after.v[j] = v;
    });
}

}  // namespace

std::size_t workspace_bytes(std::size_t size, std::size_t rows) {
    return 8 + chunks_of(size) * rows * sizeof(RowStats);
}

void weighted_sum(float* out, std::size_t size, const Rows& rows, cudaStream_t stream) {
    launch_pass({out, nullptr, 1.0, size}, rows, stream);
}

void average_step(float* out, const float* anchor, double lr, std::size_t size, const Rows& rows,
                  cudaStream_t stream) {
    launch_pass({out, anchor, lr, size}, rows, stream);
}

void momentum_step(After after, Before before, std::size_t size, double lr, double beta,
                   cudaStream_t stream) {
    for_each_value(size, stream, [=] __device__(std::size_t j) {
        const float m = heavy_ball(before.m[j], before.delta[j], beta);
        after.w[j] = server_step(before.w[j], double{m}, lr);
        after.m[j] = m;
    });
}

void adaptive_step(After after, Before before, std::size_t size, Adam rule, cudaStream_t stream) {
    adaptive(after, before, size, rule, stream);
}

void adaptive_step(After after, Before before, std::size_t size, Yogi rule, cudaStream_t stream) {
    adaptive(after, before, size, rule, stream);
}

void adaptive_step(After after, Before before, std::size_t size, Adagrad rule,
                   cudaStream_t stream) {
    adaptive(after, before, size, rule, stream);
}

void proximal(float* gradient, std::size_t size, Pull pull, cudaStream_t stream) {
    for_each_value(size, stream, [=] __device__(std::size_t j) {
        gradient[j] = proximal_gradient(gradient[j], pull.weights[j], pull.anchor[j], pull.mu);
    });
}

}  // namespace llmagentos::cuda
