// The arithmetic of a federated round over flat vectors, on the CPU.
//
// n rows, d values; x_k is row k, w_k its weight. Sums are float64 in the order of the rows,
// those of narrow types in groups that are added in float32 (narrow_rows), and are rounded once;
// weights are used as exact_weight has them. No result depends on the number of threads or on the
// instruction set. Rows may lie at any address; NaN and Inf propagate and are counted. Outputs
// overlap no input, except where a line says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "arithmetic.hpp"

namespace llmagentos {

// d values of one type, at any alignment; d is the length of the vector beside it. An int8 row has
// a float32 scale for every scale_group of its values, at any alignment too.
struct Row {
    const std::byte* values;
    Element element;
    const std::byte* scales = nullptr;
};

// squared_norm = sum_j x[j]^2 in float64, in the order of arithmetic.hpp; NaN or Inf where x has
// one.
struct RowStats {
    double squared_norm = 0.0;
    std::int64_t nonfinite = 0;
};

// The kernels compiled for one instruction set; see instructions.hpp.
struct InstructionSet;

// The sets that this processor has, from the plain one to the widest.
std::span<const InstructionSet* const> instruction_sets();

// Who does the work. Neither changes a bit of the results.
struct Workers {
    unsigned threads = 1;
    const InstructionSet& instructions = *instruction_sets().back();
};

// out[j] = sum_k w_k x_k[j]; stats[k] describes row k. Every row is read once, out written once.
void weighted_sum(std::span<float> out, std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, Workers workers);

// out[j] = anchor[j] + lr sum_k w_k x_k[j], in the same single pass.
void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, Workers workers);

RowStats inspect(Row row, std::size_t size, Workers workers);

// The server's state before a step and the averaged delta; the state after it.
struct Before {
    std::span<const float> w, m, v, delta;
};
struct After {
    std::span<float> w, m, v;
};

// FedAvgM, FedAdam, FedYogi, FedAdagrad: see Momentum and Adaptive. Momentum does not look at v.
void take_step(After after, Before before, Momentum rule, Workers workers);
void take_step(After after, Before before, Adam rule, Workers workers);
void take_step(After after, Before before, Yogi rule, Workers workers);
void take_step(After after, Before before, Adagrad rule, Workers workers);

// The bits of weighted_sum into delta and then take_step, in one pass and without a delta.
void average_and_step(After after, Before before, Momentum rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers);
void average_and_step(After after, Before before, Adam rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers);
void average_and_step(After after, Before before, Yogi rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers);
void average_and_step(After after, Before before, Adagrad rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers);

// gradient[j] += mu (weights[j] - anchor[j]), in place.
void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, Workers workers);

// What local training changes in place.
struct Training {
    std::span<float> w, m, v;
};

// A step of AdamW along scale * gradient[j].
void train_step(Training training, std::span<const float> gradient, double scale, AdamW rule,
                Workers workers);

}  // namespace llmagentos
