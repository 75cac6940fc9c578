// The arithmetic of a federated round over flat vectors, on the CPU.
//
// n rows, d values; x_k is row k, w_k its weight. Sums are float64 in the order of the rows,
// rounded to float32 once. No result depends on the number of threads. Rows may lie at any address;
// NaN and Inf propagate and are counted. Outputs overlap no input, except where a line says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "arithmetic.hpp"

namespace llmagentos {

// d values of one type, at any alignment; d is the length of the vector beside it.
struct Row {
    const std::byte* values;
    Element element;
};

// squared_norm = sum_j x[j]^2 in float64, in the order of arithmetic.hpp; NaN where x has one.
struct RowStats {
    double squared_norm = 0.0;
    std::int64_t nonfinite = 0;
};

// out[j] = sum_k w_k x_k[j]; stats[k] describes row k. Every row is read once, out written once.
void weighted_sum(std::span<float> out, std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, unsigned threads);

// out[j] = anchor[j] + lr sum_k w_k x_k[j], in the same single pass.
void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, unsigned threads);

RowStats inspect(Row row, std::size_t size, unsigned threads);

// sums[j] += weight x[j]. Rows added one by one and then finished give the bits of weighted_sum.
RowStats accumulate(std::span<double> sums, Row row, double weight, unsigned threads);

// out[j] = sums[j], and out[j] = anchor[j] + lr sums[j].
void finish(std::span<float> out, std::span<const double> sums, unsigned threads);
void finish_step(std::span<float> out, std::span<const float> anchor, double lr,
                 std::span<const double> sums, unsigned threads);

// The server's state before a step and the averaged delta; the state after it.
struct Before {
    std::span<const float> w, m, v, delta;
};
struct After {
    std::span<float> w, m, v;
};

// FedAvgM: m = beta m + delta; w += lr m. v is not looked at.
void momentum_step(After after, Before before, double lr, double beta, unsigned threads);

// FedAdam, FedYogi, FedAdagrad: see Adaptive.
void adaptive_step(After after, Before before, Adam rule, unsigned threads);
void adaptive_step(After after, Before before, Yogi rule, unsigned threads);
void adaptive_step(After after, Before before, Adagrad rule, unsigned threads);

// gradient[j] += mu (weights[j] - anchor[j]), in place.
void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, unsigned threads);

}  // namespace llmagentos
