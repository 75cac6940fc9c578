// The CUDA twin gives the bits of the CPU kernels. Built for a device, it ends with 77 where there
// is none; built with emulated/ in place of CUDA's runtime, it runs on the processor.
#include "device.hpp"

using namespace llmagentos;

namespace {

void test_one_pass(std::size_t size, std::size_t n, std::mt19937& generator) {
    Cohort cohort(size, n, generator);
    const auto anchor = random_floats(size, generator);
    std::vector<float> stepped(size), summed(size);
    average_step(stepped, anchor, 0.5, cohort.rows, cohort.weights, cohort.expected, {1});
    weighted_sum(summed, cohort.rows, cohort.weights, cohort.expected, {1});
    const OnDevice<float> out(summed, 4), start(anchor);
    cuda::average_step(out.get(), start.get(), 0.5, size, cohort.on_device(), nullptr);
    expect(same_bits(out.read(), stepped), "cuda average_step is the CPU's");
    cohort.expect_stats();
    cuda::weighted_sum(out.get(), size, cohort.on_device(), nullptr);
    expect(same_bits(out.read(), summed), "cuda weighted_sum is the CPU's");
    cohort.expect_stats();
    cuda::inspect(size, cohort.on_device(), nullptr);
    cohort.expect_stats();
}

// The state before and after a step, in both memories.
struct State {
    std::vector<float> w, m, v, delta, next_w, next_m, next_v;
    OnDevice<float> device_w, device_m, device_v, device_delta, out_w, out_m, out_v;

    State(std::size_t size, std::mt19937& generator)
        : w(random_floats(size, generator)),
          m(random_floats(size, generator)),
          v(random_floats(size, generator)),
          delta(random_floats(size, generator)),
          next_w(size),
          next_m(size),
          next_v(size),
          device_w(w),
          device_m(m),
          device_v(v, 4),
          device_delta(delta),
          out_w(w),
          out_m(m, 8),
          out_v(v) {}

    After after() { return {next_w, next_m, next_v}; }
    Before before() const { return {w, m, v, delta}; }
    cuda::After device_after() const { return {out_w.get(), out_m.get(), out_v.get()}; }
    cuda::Before device_before() const {
        return {device_w.get(), device_m.get(), device_v.get(), device_delta.get()};
    }
    void expect_after(bool with_v, const char* what) const {
        expect(same_bits(out_w.read(), next_w) && same_bits(out_m.read(), next_m), what);
        expect(!with_v || same_bits(out_v.read(), next_v), what);
    }
};

template <class Rule>
void test_step(std::size_t size, Rule rule, std::mt19937& generator) {
    constexpr bool with_v = std::is_base_of_v<Adaptive, Rule>;
    State state(size, generator);
    take_step(state.after(), state.before(), rule, {1});
    cuda::take_step(state.device_after(), state.device_before(), rule, size, nullptr);
    state.expect_after(with_v, "cuda take_step is the CPU's");

    Cohort cohort(size, 5, generator);
    average_and_step(state.after(), state.before(), rule, cohort.rows, cohort.weights,
                     cohort.expected, {1});
    cuda::average_and_step(state.device_after(), state.device_before(), rule, size,
                           cohort.on_device(), nullptr);
    state.expect_after(with_v, "cuda average_and_step is the CPU's");
    cohort.expect_stats();
}

void test_proximal(std::size_t size, std::mt19937& generator) {
    const auto w = random_floats(size, generator), anchor = random_floats(size, generator);
    auto gradient = random_floats(size, generator);
    const OnDevice<float> dg(gradient), dw(w), da(anchor, 4);
    proximal(gradient, w, anchor, 0.25, {1});
    cuda::proximal(dg.get(), {dw.get(), da.get(), 0.25}, size, nullptr);
    expect(same_bits(dg.read(), gradient), "cuda proximal is the CPU's");
}

void test_train_step(std::size_t size, double mu, double clip, std::mt19937& generator) {
    State state(size, generator);
    const AdamW rule{0.9, 0.999, 1e-9, 0.9999, 0.01};
    const OnDevice<RowStats> stats{std::vector<RowStats>(1)};
    const OnDevice<std::byte> workspace(std::vector<std::byte>(cuda::workspace_bytes(size, 1)));
    const auto anchor = random_floats(size, generator);
    const OnDevice<float> device_anchor(anchor);
    auto &w = state.w, &m = state.m, &v = state.v, &gradient = state.delta;
    for (float& value : v) value = std::abs(value);
    const OnDevice<float> device_v(v);
    for (int step = 0; step < 2; ++step) {
        if (mu != 0.0) proximal(gradient, w, anchor, mu, {1});
        const RowStats norm =
            inspect({reinterpret_cast<std::byte*>(gradient.data()), Element::float32}, size, {1});
        train_step({w, m, v}, gradient, clip_scale(std::sqrt(norm.squared_norm), clip), rule, {1});
        cuda::train_step(
            {state.device_w.get(), state.device_m.get(), device_v.get(), state.device_delta.get()},
            device_anchor.get(), mu, clip, rule, size, stats.get(), workspace.get(), nullptr);
        expect(size == 0 || stats.read()[0].squared_norm == norm.squared_norm,
               "cuda train_step measures as the CPU does");
        expect(same_bits(state.device_delta.read(), gradient), "cuda train_step pulls");
        expect(same_bits(state.device_w.read(), w) && same_bits(state.device_m.read(), m) &&
                   same_bits(device_v.read(), v),
               "cuda train_step is the CPU's");
    }
}

}  // namespace

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 77;
    std::mt19937 generator(0);
    for (const std::size_t size : {0, 1, 7, 1023, 1025, 65537, 66569}) {
        for (const std::size_t n : {0, 1, 3, 6}) test_one_pass(size, n, generator);
        test_step(size, Momentum{0.5, 0.9}, generator);
        test_step(size, Adam{{0.1, 0.9, 0.99, 1e-3}}, generator);
        test_step(size, Yogi{{0.1, 0.9, 0.99, 1e-3}}, generator);
        test_step(size, Adagrad{{0.1, 0.9, 0.99, 1e-3}}, generator);
        test_proximal(size, generator);
        test_train_step(size, 0.0, 0.0, generator);
        test_train_step(size, 0.25, 1.0, generator);
    }
    test_one_pass(9, cuda::row_limit, generator);
    std::puts("cuda: all expectations hold");
}
