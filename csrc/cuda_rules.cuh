// The server's rules on n values at a time: the state is read, and what follows it written.
#pragma once

#include "cuda_vectors.cuh"

namespace llmagentos::cuda {
namespace {

template <unsigned n>
__device__ void take(Momentum rule, After after, Before before, std::size_t j, std::size_t size,
                     const Floats<n>& delta) {
    Floats<n> w = load<n>(before.w, j, size), m = load<n>(before.m, j, size);
#pragma unroll
    for (unsigned i = 0; i < n; ++i) {
        m[i] = heavy_ball(m[i], delta[i], rule.beta);
        w[i] = server_step(w[i], double{m[i]}, rule.lr);
    }
    store(after.w, j, size, w);
    store(after.m, j, size, m);
}

template <unsigned n, class Rule>
__device__ void take(Rule rule, After after, Before before, std::size_t j, std::size_t size,
                     const Floats<n>& delta) {
    Floats<n> w = load<n>(before.w, j, size), m = load<n>(before.m, j, size),
              v = load<n>(before.v, j, size);
#pragma unroll
    for (unsigned i = 0; i < n; ++i) {
        m[i] = rule.first_moment(m[i], delta[i]);
        v[i] = rule.second_moment(v[i], delta[i]);
        w[i] = rule.weight(w[i], m[i], std::sqrt(v[i]));
    }
    store(after.w, j, size, w);
    store(after.m, j, size, m);
    store(after.v, j, size, v);
}

}  // namespace
}  // namespace llmagentos::cuda
