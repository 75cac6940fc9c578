// Whichever allocation fails, on whichever thread: it is an error to catch, or others do the work.
#include <atomic>
#include <climits>
#include <cstdlib>
#include <new>

#include "robust.hpp"
#include "rows.hpp"

using namespace llmagentos;

namespace {

std::atomic<int> allocations_left = INT_MAX;

void* allocate(std::size_t size, std::size_t alignment) {
    if (--allocations_left < 0) throw std::bad_alloc();
    void* place = std::aligned_alloc(alignment, (size / alignment + 1) * alignment);
    return place ? place : throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* place) noexcept { std::free(place); }
void operator delete(void* place, std::size_t) noexcept { std::free(place); }
void operator delete(void* place, std::align_val_t) noexcept { std::free(place); }
void operator delete(void* place, std::size_t, std::align_val_t) noexcept { std::free(place); }

namespace {

// Allows 0, 1, 2, ... allocations until they are enough. `holds` is asked after every call that
// ends well.
template <class Call, class Holds>
void test_every_allocation(const Call& call, const Holds& holds) {
    int failures = 0;
    for (bool enough = false; !enough; ++failures) {
        allocations_left = failures;
        try {
            call();
        } catch (const std::bad_alloc&) {
            allocations_left = INT_MAX;
            continue;
        }
        enough = allocations_left >= 0;
        allocations_left = INT_MAX;
        expect(holds(), "what ends well is right");
    }
    expect(failures > 1, "some allocation failed");
}

}  // namespace

int main() {
    constexpr std::size_t size = 3 * chunk_size, n = 5;
    const std::vector<float> ones(size, 1.0f);
    const std::vector<Row> rows(
        n, {reinterpret_cast<const std::byte*>(ones.data()), Element::float32});
    const std::vector<double> weights(n, 1.0);
    const Workers workers{3};

    std::vector<float> sums(size);
    std::vector<RowStats> stats(n);
    test_every_allocation([&] { weighted_sum(sums, rows, weights, stats, workers); },
                          [&] { return sums.back() == n && stats[0].squared_norm == size; });
    test_every_allocation([&] { trimmed_mean(sums, rows, 1, stats, workers); },
                          [&] { return sums.back() == 1 && stats[0].squared_norm == size; });
    std::vector<double> products(n * n);
    test_every_allocation([&] { inner_products(products, rows, size, workers); },
                          [&] { return products == std::vector<double>(n * n, size); });
    std::printf("all expectations hold\n");
}
