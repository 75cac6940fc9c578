// The kernels on a CUDA device: the same bits as kernels.hpp, from the same arithmetic.
//
// Every pointer points to device memory, a row's values too, aligned to their type; the spans
// themselves lie on the host and are copied at the call. Work is queued on the caller's stream in
// one launch per pass, and the call returns at once. What the device refuses is thrown as
// std::runtime_error, what the caller gets wrong as std::invalid_argument.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>

#include "kernels.hpp"

namespace llmagentos::cuda {

// Rows that fit the parameters of one launch.
constexpr std::size_t row_limit = 1024;

// Bytes of workspace, aligned to 8, for a pass over n rows of d values. The first 8 are zero before
// its first use; every pass leaves them so. Passes that may overlap need workspaces of their own.
std::size_t workspace_bytes(std::size_t size, std::size_t rows);

// n rows with their weights; stats[k] describes row k. At most row_limit rows.
struct Rows {
    std::span<const Row> rows;
    std::span<const double> weights;
    RowStats* stats;
    std::byte* workspace;
};

// out[j] = sum_k w_k x_k[j]
void weighted_sum(float* out, std::size_t size, const Rows& rows, cudaStream_t stream);

// out[j] = anchor[j] + lr sum_k w_k x_k[j]
void average_step(float* out, const float* anchor, double lr, std::size_t size, const Rows& rows,
                  cudaStream_t stream);

struct Before {
    const float *w, *m, *v, *delta;
};
struct After {
    float *w, *m, *v;
};

void momentum_step(After after, Before before, std::size_t size, double lr, double beta,
                   cudaStream_t stream);
void adaptive_step(After after, Before before, std::size_t size, Adam rule, cudaStream_t stream);
void adaptive_step(After after, Before before, std::size_t size, Yogi rule, cudaStream_t stream);
void adaptive_step(After after, Before before, std::size_t size, Adagrad rule, cudaStream_t stream);

// gradient[j] += mu (weights[j] - anchor[j]), in place.
struct Pull {
    const float *weights, *anchor;
    double mu;
};
void proximal(float* gradient, std::size_t size, Pull pull, cudaStream_t stream);

}  // namespace llmagentos::cuda
