// Server steps, the proximal correction and a step of local training, over flat vectors.
#include "cuda_launch.cuh"
#include "cuda_rules.cuh"

namespace llmagentos::cuda {
namespace {

template <class Rule>
struct TakeStep {
    After after;
    Before before;
    Rule rule;

    __device__ void operator()(std::size_t j, std::size_t size) const {
        take(rule, after, before, j, size, load<4>(before.delta, j, size));
    }
};

template <unsigned n>
__device__ Floats<n> pulled(const float* gradient, Pull pull, std::size_t j, std::size_t size) {
    Floats<n> values = load<n>(gradient, j, size);
    if (pull.mu == 0.0) return values;
    const Floats<n> w = load<n>(pull.w, j, size), anchor = load<n>(pull.anchor, j, size);
#pragma unroll
    for (unsigned i = 0; i < n; ++i) {
        values[i] = proximal_gradient(values[i], w[i], anchor[i], pull.mu);
    }
    return values;
}

struct Correct {
    float* gradient;
    Pull pull;

    __device__ void operator()(std::size_t j, std::size_t size) const {
        store(gradient, j, size, pulled<4>(gradient, pull, j, size));
    }
};

// Pulls the gradient and measures it, as the one row of a pass.
__global__ void __launch_bounds__(tile_threads)
    pull_and_measure(float* gradient, Pull pull, std::size_t size, Parts parts) {
    __shared__ Stage stage;
    const std::size_t first = blockIdx.x * part_size;
    const std::size_t last = std::min(first + part_size, size);
    for (std::size_t start = first; start < last; start += tile_size) {
        const std::size_t j = start + threadIdx.x * lane_count;
        const Floats<8> values = pulled<8>(gradient, pull, j, size);
        if (pull.mu != 0.0) store(gradient, j, size, values);
        stage.put(0, values);
        measure<false>(stage, parts, {start, size, 0, 1});
    }
    finish_norms(stage, parts, size, 1);
}

__device__ void train_four(Training training, AdamW rule, double scale, std::size_t j,
                           std::size_t size) {
    const Floats<4> gradient = load<4>(training.gradient, j, size);
    Floats<4> w = load<4>(training.w, j, size), m = load<4>(training.m, j, size),
              v = load<4>(training.v, j, size);
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
        const double scaled = scale * double{gradient[i]};
        m[i] = rule.first_moment(m[i], scaled);
        v[i] = rule.second_moment(v[i], scaled);
        w[i] = rule.weight(w[i], m[i], std::sqrt(v[i]));
    }
    store(training.w, j, size, w);
    store(training.m, j, size, m);
    store(training.v, j, size, v);
}

__global__ void clip_and_train(Training training, const RowStats* gradient, double clip, AdamW rule,
                               std::size_t size) {
    __shared__ double scale;
    if (threadIdx.x == 0) scale = clip_scale(std::sqrt(gradient->squared_norm), clip);
    __syncthreads();
    const std::size_t j = 4 * (std::size_t{blockIdx.x} * blockDim.x + threadIdx.x);
    if (j < size) train_four(training, rule, scale, j, size);
}

}  // namespace

void take_step(After after, Before before, Momentum rule, std::size_t size, cudaStream_t stream) {
    for_each_four(size, stream, TakeStep<Momentum>{after, before, rule});
}

void take_step(After after, Before before, Adam rule, std::size_t size, cudaStream_t stream) {
    for_each_four(size, stream, TakeStep<Adam>{after, before, rule});
}

void take_step(After after, Before before, Yogi rule, std::size_t size, cudaStream_t stream) {
    for_each_four(size, stream, TakeStep<Yogi>{after, before, rule});
}

void take_step(After after, Before before, Adagrad rule, std::size_t size, cudaStream_t stream) {
    for_each_four(size, stream, TakeStep<Adagrad>{after, before, rule});
}

void proximal(float* gradient, Pull pull, std::size_t size, cudaStream_t stream) {
    if (pull.mu != 0.0) for_each_four(size, stream, Correct{gradient, pull});
}

void train_step(Training training, const float* anchor, double mu, double clip, AdamW rule,
                std::size_t size, RowStats* stats, std::byte* workspace, cudaStream_t stream) {
    if (size == 0) return;
    const Pull pull{training.w, anchor, mu};
    const Parts parts = parts_at(workspace, {size, 1}, stats);
    launch(pull_and_measure, parts_of(size), tile_threads, stream, training.gradient, pull, size,
           parts);
    const RowStats* measured = stats;
    launch(clip_and_train, blocks_of(size), four_threads, stream, training, measured, clip, rule,
           size);
}

}  // namespace llmagentos::cuda
