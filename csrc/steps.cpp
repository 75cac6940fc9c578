// Server steps and the proximal correction: value by value over flat vectors.
#include <cassert>

#include "threads.hpp"

namespace llmagentos {

namespace {

template <class Rule>
void step(After after, Before before, Rule rule, Workers workers, const RuleSteps<Rule>& steps) {
    assert(before.w.size() == after.w.size() && before.delta.size() == after.w.size());
    assert(before.m.size() == after.w.size());
    for_each_chunk(after.w.size(), workers.threads,
                   [&](Chunk chunk) { steps.step(after, before, rule, chunk); });
}

}  // namespace

void take_step(After after, Before before, Momentum rule, Workers workers) {
    step(after, before, rule, workers, workers.instructions.momentum);
}

void take_step(After after, Before before, Adam rule, Workers workers) {
    step(after, before, rule, workers, workers.instructions.adam);
}

void take_step(After after, Before before, Yogi rule, Workers workers) {
    step(after, before, rule, workers, workers.instructions.yogi);
}

void take_step(After after, Before before, Adagrad rule, Workers workers) {
    step(after, before, rule, workers, workers.instructions.adagrad);
}

void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, Workers workers) {
    assert(weights.size() == gradient.size() && anchor.size() == gradient.size());
    for_each_chunk(gradient.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.proximal(gradient, weights, anchor, mu, chunk);
    });
}

void train_step(Training training, std::span<const float> gradient, double scale, AdamW rule,
                Workers workers) {
    const auto& [w, m, v] = training;
    assert(m.size() == w.size() && v.size() == w.size() && gradient.size() == w.size());
    for_each_chunk(w.size(), workers.threads, [&](Chunk chunk) {
        workers.instructions.train_step(training, gradient, scale, rule, chunk);
    });
}

}  // namespace llmagentos
