// Server steps and the proximal correction: value by value over flat vectors.
#include <cassert>

#include "threads.hpp"

namespace llmagentos {

void finish(std::span<float> out, std::span<const double> sums, Workers workers) {
    assert(sums.size() == out.size());
    for_each_chunk(out.size(), workers.threads,
                   [&](Chunk chunk) { workers.instructions.finish(out, sums, chunk); });
}

void finish_step(std::span<float> out, std::span<const float> anchor, double lr,
                 std::span<const double> sums, Workers workers) {
    assert(sums.size() == out.size() && anchor.size() == out.size());
    for_each_chunk(out.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.finish_step(out, anchor, lr, sums, chunk);
    });
}

void momentum_step(After after, Before before, double lr, double beta, Workers workers) {
    assert(before.m.size() == after.w.size() && before.delta.size() == after.w.size());
    for_each_chunk(after.w.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.momentum_step(after, before, lr, beta, chunk);
    });
}

void adaptive_step(After after, Before before, Adam rule, Workers workers) {
    assert(before.m.size() == after.w.size() && before.v.size() == after.w.size());
    for_each_chunk(after.w.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.adam_step(after, before, rule, chunk);
    });
}

void adaptive_step(After after, Before before, Yogi rule, Workers workers) {
    assert(before.m.size() == after.w.size() && before.v.size() == after.w.size());
    for_each_chunk(after.w.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.yogi_step(after, before, rule, chunk);
    });
}

void adaptive_step(After after, Before before, Adagrad rule, Workers workers) {
    assert(before.m.size() == after.w.size() && before.v.size() == after.w.size());
    for_each_chunk(after.w.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.adagrad_step(after, before, rule, chunk);
    });
}

void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, Workers workers) {
    assert(weights.size() == gradient.size() && anchor.size() == gradient.size());
    for_each_chunk(gradient.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.proximal(gradient, weights, anchor, mu, chunk);
    });
}

}  // namespace llmagentos
