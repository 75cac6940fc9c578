// The CUDA twin gives the bits of the CPU kernels. Needs a device; ends with 77 where there is
// none.
#include <utility>

#include "cuda.hpp"
#include "rows.hpp"

using namespace llmagentos;

namespace {

void check(cudaError_t status) { expect(status == cudaSuccess, cudaGetErrorString(status)); }

// Device memory with a copy of host values.
template <class Value>
class OnDevice {
  public:
    explicit OnDevice(const std::vector<Value>& values) : count_(values.size()) {
        check(cudaMalloc(&memory_, bytes() + 1));
        check(cudaMemcpy(memory_, values.data(), bytes(), cudaMemcpyHostToDevice));
    }
    OnDevice(OnDevice&& other) noexcept
        : count_(other.count_), memory_(std::exchange(other.memory_, nullptr)) {}
    ~OnDevice() { cudaFree(memory_); }

    Value* get() const { return static_cast<Value*>(memory_); }
    std::vector<Value> read() const {
        std::vector<Value> values(count_);
        check(cudaMemcpy(values.data(), memory_, bytes(), cudaMemcpyDeviceToHost));
        return values;
    }

  private:
    std::size_t bytes() const { return count_ * sizeof(Value); }

    std::size_t count_;
    void* memory_ = nullptr;
};

std::vector<std::byte> random_bytes(std::size_t count, std::mt19937& generator) {
    std::vector<std::byte> bytes(count);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
    return bytes;
}

void test_one_pass(std::size_t size, std::size_t n, std::mt19937& generator) {
    std::vector<std::vector<std::byte>> memory;
    std::vector<OnDevice<std::byte>> copies;
    std::vector<Row> rows, device_rows;
    std::vector<double> weights;
    for (std::size_t k = 0; k < n; ++k) {
        const auto element = static_cast<Element>(k % 3);
        memory.push_back(random_bytes(size * bytes_of(element), generator));
        copies.emplace_back(memory.back());
        rows.push_back({memory.back().data(), element});
        device_rows.push_back({copies.back().get(), element});
        weights.push_back(1.0 / static_cast<double>(k + 1));
    }
    const auto anchor = random_floats(size, generator);
    std::vector<float> expected(size);
    std::vector<RowStats> expected_stats(n);
    average_step(expected, anchor, 0.5, rows, weights, expected_stats, {1});

    const OnDevice<float> out(expected), start(anchor);
    const OnDevice<RowStats> stats(expected_stats);
    const OnDevice<std::byte> workspace(std::vector<std::byte>(cuda::workspace_bytes(size, n)));
    for (int repeat = 0; repeat < 2; ++repeat) {
        check(cudaMemset(out.get(), 0xff, size * sizeof(float)));
        check(cudaMemset(stats.get(), 0xff, n * sizeof(RowStats)));
        cuda::average_step(out.get(), start.get(), 0.5, size,
                           {device_rows, weights, stats.get(), workspace.get()}, nullptr);
        expect(same_bits(out.read(), expected), "cuda average_step is the CPU's");
        const auto found = stats.read();
        for (std::size_t k = 0; k < n; ++k) {
            expect(found[k].nonfinite == expected_stats[k].nonfinite, "cuda counts bad values");
            expect(found[k].squared_norm == expected_stats[k].squared_norm ||
                       expected_stats[k].nonfinite > 0,
                   "cuda measures as the CPU does");
        }
    }
}

template <class Rule>
void test_adaptive_step(std::size_t size, std::mt19937& generator) {
    const auto w = random_floats(size, generator), m = random_floats(size, generator),
               v = random_floats(size, generator), delta = random_floats(size, generator);
    const Rule rule{{0.1, 0.9, 0.99, 1e-3}};
    std::vector<float> next_w(size), next_m(size), next_v(size);
    take_step(After{next_w, next_m, next_v}, Before{w, m, v, delta}, rule, {1});

    const OnDevice<float> dw(w), dm(m), dv(v), dd(delta), ow(w), om(m), ov(v);
    cuda::adaptive_step({ow.get(), om.get(), ov.get()}, {dw.get(), dm.get(), dv.get(), dd.get()},
                        size, rule, nullptr);
    expect(same_bits(ow.read(), next_w) && same_bits(om.read(), next_m) &&
               same_bits(ov.read(), next_v),
           "cuda adaptive_step is the CPU's");
}

void test_proximal(std::size_t size, std::mt19937& generator) {
    const auto w = random_floats(size, generator), anchor = random_floats(size, generator);
    auto gradient = random_floats(size, generator);
    const OnDevice<float> dg(gradient), dw(w), da(anchor);
    proximal(gradient, w, anchor, 0.25, {1});
    cuda::proximal(dg.get(), size, {dw.get(), da.get(), 0.25}, nullptr);
    expect(same_bits(dg.read(), gradient), "cuda proximal is the CPU's");
}

}  // namespace

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return 77;
    std::mt19937 generator(0);
    for (const std::size_t size : {0, 1, 7, 1023, 1025, 65537, 140001}) {
        for (const std::size_t n : {0, 1, 3, 20}) test_one_pass(size, n, generator);
        test_adaptive_step<Adam>(size, generator);
        test_adaptive_step<Yogi>(size, generator);
        test_adaptive_step<Adagrad>(size, generator);
        test_proximal(size, generator);
    }
    std::puts("cuda: all expectations hold");
}
