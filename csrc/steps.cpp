// Server steps and the proximal correction: value by value over flat vectors.
#include <cassert>
#include <cmath>

#include "kernels.hpp"
#include "threads.hpp"

namespace llmagentos {
namespace {

// Calls work(j) for every j in [0, size). Work reads and writes place j only, so that the loop may
// be vectorised although the compiler cannot see which vectors overlap.
template <class Work>
void for_each_value(std::size_t size, unsigned threads, const Work& work) {
    for_each_chunk(size, threads, [&](Chunk chunk) {
#pragma GCC ivdep
        for (std::size_t j = chunk.start; j < chunk.stop; ++j) work(j);
    });
}

template <class Rule>
void adaptive(After after, Before before, Rule rule, unsigned threads) {
    assert(before.m.size() == after.w.size() && before.v.size() == after.w.size());
    for_each_value(after.w.size(), threads, [=](std::size_t j) {
        const float m = rule.first_moment(before.m[j], before.delta[j]);
        const float v = rule.second_moment(before.v[j], before.delta[j]);
        after.w[j] = rule.weight(before.w[j], m, std::sqrt(double{v}));
        after.m[j] = m;
        after.v[j] = v;
    });
}

}  // namespace

void finish(std::span<float> out, std::span<const double> sums, unsigned threads) {
    assert(sums.size() == out.size());
    for_each_value(out.size(), threads, [=](std::size_t j) { out[j] = narrow(sums[j]); });
}

void finish_step(std::span<float> out, std::span<const float> anchor, double lr,
                 std::span<const double> sums, unsigned threads) {
    assert(sums.size() == out.size() && anchor.size() == out.size());
    for_each_value(out.size(), threads,
                   [=](std::size_t j) { out[j] = server_step(anchor[j], sums[j], lr); });
}

void momentum_step(After after, Before before, double lr, double beta, unsigned threads) {
    assert(before.m.size() == after.w.size() && before.delta.size() == after.w.size());
    for_each_value(after.w.size(), threads, [=](std::size_t j) {
        const float m = heavy_ball(before.m[j], before.delta[j], beta);
        after.w[j] = server_step(before.w[j], double{m}, lr);
        after.m[j] = m;
    });
}

void adaptive_step(After after, Before before, Adam rule, unsigned threads) {
    adaptive(after, before, rule, threads);
}

void adaptive_step(After after, Before before, Yogi rule, unsigned threads) {
    adaptive(after, before, rule, threads);
}

void adaptive_step(After after, Before before, Adagrad rule, unsigned threads) {
    adaptive(after, before, rule, threads);
}

void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, unsigned threads) {
    assert(weights.size() == gradient.size() && anchor.size() == gradient.size());
    for_each_value(gradient.size(), threads, [=](std::size_t j) {
        gradient[j] = proximal_gradient(gradient[j], weights[j], anchor[j], mu);
    });
}

}  // namespace llmagentos
