// The CUDA twin as Python sees it: addresses in device memory, sizes and a stream, all integers.
// llmagentos/kernels/device.py checks what they come from; _cuda.pyi has the signatures.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda.hpp"

namespace llmagentos::cuda {
namespace {

namespace py = pybind11;

using Address = std::uintptr_t;

template <class Value>
Value* at(Address address) {
    return reinterpret_cast<Value*>(address);
}

cudaStream_t stream_at(Address address) { return reinterpret_cast<cudaStream_t>(address); }

Element element_of(const std::string& name) {
    if (name == "float32") return Element::float32;
    if (name == "float16") return Element::float16;
    if (name == "bfloat16") return Element::bfloat16;
    if (name == "int8") return Element::int8;
    throw py::value_error(name + " is no type of a row");
}

// A row as Python has it: its address, its type, and the address of its scales or 0.
using Entry = std::tuple<Address, std::string, Address>;

// Rows with their weights, and the addresses of stats and workspace.
struct Cohort {
    std::vector<Row> rows;
    std::vector<double> weights;
    Address stats, workspace;

    Rows view() const { return {rows, weights, at<RowStats>(stats), at<std::byte>(workspace)}; }
};

Cohort cohort_of(const std::vector<Entry>& entries, std::vector<double> weights, Address stats,
                 Address workspace) {
    Cohort cohort{{}, std::move(weights), stats, workspace};
    for (const auto& [address, name, scales] : entries) {
        cohort.rows.push_back(
            {at<const std::byte>(address), element_of(name), at<const std::byte>(scales)});
    }
    return cohort;
}

void py_inspect(std::size_t size, const Cohort& rows, Address stream) {
    inspect(size, rows.view(), stream_at(stream));
}

void py_weighted_sum(Address out, std::size_t size, const Cohort& rows, Address stream) {
    weighted_sum(at<float>(out), size, rows.view(), stream_at(stream));
}

void py_average_step(Address out, Address anchor, double lr, std::size_t size, const Cohort& rows,
                     Address stream) {
    average_step(at<float>(out), at<const float>(anchor), lr, size, rows.view(), stream_at(stream));
}

using Addresses = std::vector<Address>;

void require(bool holds, const char* what) {
    if (!holds) throw py::value_error(what);
}

template <class Rule>
constexpr bool is_adaptive = std::is_base_of_v<Adaptive, Rule>;

// (w, m, v, delta), without v for Momentum and without delta where the rows stand for it.
template <class Rule>
Before before_of(const Addresses& before, bool with_delta) {
    require(before.size() == (is_adaptive<Rule> ? 3u : 2u) + (with_delta ? 1 : 0),
            "before has another number of vectors");
    return {at<const float>(before[0]), at<const float>(before[1]),
            is_adaptive<Rule> ? at<const float>(before[2]) : nullptr,
            with_delta ? at<const float>(before.back()) : nullptr};
}

// (m, v, w), without v for Momentum.
template <class Rule>
After after_of(const Addresses& out) {
    require(out.size() == (is_adaptive<Rule> ? 3 : 2), "out has another number of vectors");
    return {at<float>(out.back()), at<float>(out.front()),
            is_adaptive<Rule> ? at<float>(out[1]) : nullptr};
}

template <class Rule>
Rule rule_of(const std::vector<double>& rates) {
    require(rates.size() == (is_adaptive<Rule> ? 4 : 2), "there is another number of rates");
    if constexpr (is_adaptive<Rule>) {
        return {{rates[0], rates[1], rates[2], rates[3]}};
    } else {
        return {rates[0], rates[1]};
    }
}

template <class Rule>
void py_step(const Addresses& out, const Addresses& before, const std::vector<double>& rates,
             std::size_t size, Address stream) {
    take_step(after_of<Rule>(out), before_of<Rule>(before, true), rule_of<Rule>(rates), size,
              stream_at(stream));
}

template <class Rule>
void py_average_and_step(const Addresses& out, const Addresses& before,
                         const std::vector<double>& rates, std::size_t size, const Cohort& rows,
                         Address stream) {
    average_and_step(after_of<Rule>(out), before_of<Rule>(before, false), rule_of<Rule>(rates),
                     size, rows.view(), stream_at(stream));
}

void py_proximal(Address gradient, Address weights, Address anchor, double mu, std::size_t size,
                 Address stream) {
    proximal(at<float>(gradient), {at<const float>(weights), at<const float>(anchor), mu}, size,
             stream_at(stream));
}

// What local training changes: (w, m, v, gradient).
void py_train_step(const std::array<Address, 4>& vectors, Address anchor, double mu, double clip,
                   const std::array<double, 5>& rates, std::size_t size, Address stats,
                   Address workspace, Address stream) {
    const Training training{at<float>(vectors[0]), at<float>(vectors[1]), at<float>(vectors[2]),
                            at<float>(vectors[3])};
    const AdamW rule{rates[0], rates[1], rates[2], rates[3], rates[4]};
    train_step(training, at<const float>(anchor), mu, clip, rule, size, at<RowStats>(stats),
               at<std::byte>(workspace), stream_at(stream));
}

}  // namespace
}  // namespace llmagentos::cuda

PYBIND11_MODULE(_cuda, module) {
    using namespace llmagentos;
    using namespace llmagentos::cuda;
    module.doc() = "The kernels of llmagentos.kernels.reference on a CUDA device: the same bits.";
    py::class_<Cohort>(module, "Cohort").def(py::init(&cohort_of));
    module.def("workspace_bytes", &workspace_bytes);
    module.def("inspect", &py_inspect);
    module.def("weighted_sum", &py_weighted_sum);
    module.def("average_step", &py_average_step);
    module.def("momentum_step", &py_step<Momentum>);
    module.def("average_momentum_step", &py_average_and_step<Momentum>);
    module.def("adam_step", &py_step<Adam>);
    module.def("average_adam_step", &py_average_and_step<Adam>);
    module.def("yogi_step", &py_step<Yogi>);
    module.def("average_yogi_step", &py_average_and_step<Yogi>);
    module.def("adagrad_step", &py_step<Adagrad>);
    module.def("average_adagrad_step", &py_average_and_step<Adagrad>);
    module.def("proximal", &py_proximal);
    module.def("train_step", &py_train_step);
    module.attr("row_limit") = row_limit;
}
