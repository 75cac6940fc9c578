// The kernels on a CUDA device: the same bits as kernels.hpp, from the same arithmetic.
//
// Every pointer points to device memory, a row's values and scales too, aligned to their type; the
// spans themselves lie on the host and are copied at the call. Vectors and rows that are aligned to
// 16 bytes are read and written 16 bytes at a time. Work is queued on the caller's stream in one
// launch per pass, and the call returns at once. What the device refuses is thrown as
// std::runtime_error, what the caller gets wrong as std::invalid_argument.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>

#include "kernels.hpp"

namespace llmagentos::cuda {

// Rows that fit the parameters of one launch.
constexpr std::size_t row_limit = 768;

// Bytes of workspace, aligned to 8, for a pass over n rows of d values. It is zero before its first
// use and belongs to that n and d; passes that may overlap need workspaces of their own.
std::size_t workspace_bytes(std::size_t size, std::size_t rows);

// n rows with their weights; stats[k] describes row k. At most row_limit rows.
struct Rows {
    std::span<const Row> rows;
    std::span<const double> weights;
    RowStats* stats;
    std::byte* workspace;
};

// stats alone; the weights stand for nothing.
void inspect(std::size_t size, const Rows& rows, cudaStream_t stream);

// out[j] = sum_k w_k x_k[j]
void weighted_sum(float* out, std::size_t size, const Rows& rows, cudaStream_t stream);

// out[j] = anchor[j] + lr sum_k w_k x_k[j]
void average_step(float* out, const float* anchor, double lr, std::size_t size, const Rows& rows,
                  cudaStream_t stream);

// The server's state before a step and the averaged delta; the state after it. Momentum looks at
// no v, and average_and_step at no delta: it is the rounded sum of the rows.
struct Before {
    const float *w, *m, *v, *delta;
};
struct After {
    float *w, *m, *v;
};

void take_step(After after, Before before, Momentum rule, std::size_t size, cudaStream_t stream);
void take_step(After after, Before before, Adam rule, std::size_t size, cudaStream_t stream);
void take_step(After after, Before before, Yogi rule, std::size_t size, cudaStream_t stream);
void take_step(After after, Before before, Adagrad rule, std::size_t size, cudaStream_t stream);

void average_and_step(After after, Before before, Momentum rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream);
void average_and_step(After after, Before before, Adam rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream);
void average_and_step(After after, Before before, Yogi rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream);
void average_and_step(After after, Before before, Adagrad rule, std::size_t size, const Rows& rows,
                      cudaStream_t stream);

// gradient[j] += mu (w[j] - anchor[j]), in place; mu = 0 leaves every bit and reads neither.
struct Pull {
    const float *w, *anchor;
    double mu;
};
void proximal(float* gradient, Pull pull, std::size_t size, cudaStream_t stream);

// What local training changes in place.
struct Training {
    float *w, *m, *v, *gradient;
};

// The gradient is pulled to the anchor, scaled to a norm of at most `clip` (0: as it is) and taken
// as a step of AdamW: one pass for the pull and the norm, which stats describes, one for the step.
// The workspace is that of one row. The gradient is left pulled and not scaled.
void train_step(Training training, const float* anchor, double mu, double clip, AdamW rule,
                std::size_t size, RowStats* stats, std::byte* workspace, cudaStream_t stream);

}  // namespace llmagentos::cuda
