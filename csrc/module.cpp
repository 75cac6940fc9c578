// The kernels as Python sees them: check the arrays, release the GIL, call.
// llmagentos/kernels/_native.pyi has the signatures, reference.py the meaning.
#include <array>
#include <type_traits>

#include "arguments.hpp"
#include "module_robust.hpp"

namespace llmagentos {
namespace {

Pass py_weighted_sum(const InstructionSet& set, Array out, const std::vector<py::object>& rows,
                     const std::vector<double>& weights, unsigned threads) {
    require_weights(weights, rows.size());
    const auto sums = output<float>(out, size_of(out));
    const auto values = rows_of(rows, sums.size());
    std::vector<RowStats> stats(rows.size());
    without_gil([&] { weighted_sum(sums, values, weights, stats, {threads, set}); });
    return unzip(stats);
}

Pass py_average_step(const InstructionSet& set, Array out, const Array& anchor, double lr,
                     const std::vector<py::object>& rows, const std::vector<double>& weights,
                     unsigned threads) {
    require_weights(weights, rows.size());
    const auto stepped = output<float>(out, size_of(out));
    const auto from = input<float>(anchor, stepped.size());
    const auto values = rows_of(rows, stepped.size());
    std::vector<RowStats> stats(rows.size());
    without_gil([&] { average_step(stepped, from, lr, values, weights, stats, {threads, set}); });
    return unzip(stats);
}

Stats py_inspect(const InstructionSet& set, const py::object& row, unsigned threads) {
    const std::size_t size = row_size(row);
    const Row values = row_of(row, size);
    RowStats stats;
    without_gil([&] { stats = inspect(values, size, {threads, set}); });
    return {stats.squared_norm, stats.nonfinite};
}

// Arrays as Python has them: before is (w, m, v, delta) and out is (m, v, w), each without v for
// Momentum, and before without delta where the rows stand for it.
struct State {
    Before before;
    After after;
};

State state_of(std::vector<Array>& out, const std::vector<Array>& before, bool adaptive,
               bool with_delta) {
    require(out.size() == (adaptive ? 3u : 2u), "out has another number of vectors");
    require(before.size() == out.size() + (with_delta ? 1 : 0), "before has another number");
    const std::size_t size = size_of(before[0]);
    State state;
    state.before.w = input<float>(before[0], size);
    state.before.m = input<float>(before[1], size);
    if (adaptive) state.before.v = input<float>(before[2], size);
    if (with_delta) state.before.delta = input<float>(before.back(), size);
    state.after.m = output<float>(out.front(), size);
    state.after.w = output<float>(out.back(), size);
    if (adaptive) state.after.v = output<float>(out[1], size);
    return state;
}

void rule_of(Momentum& rule, const std::vector<double>& rates) {
    require(rates.size() == 2, "rates are (lr, beta)");
    rule = {rates[0], rates[1]};
}

void rule_of(Adaptive& rule, const std::vector<double>& rates) {
    require(rates.size() == 4, "rates are (lr, beta1, beta2, tau)");
    rule = {rates[0], rates[1], rates[2], rates[3]};
}

template <class Rule>
constexpr bool is_adaptive = std::is_base_of_v<Adaptive, Rule>;

template <class Rule>
void py_step(const InstructionSet& set, std::vector<Array> out, const std::vector<Array>& before,
             const std::vector<double>& rates, unsigned threads) {
    const State state = state_of(out, before, is_adaptive<Rule>, true);
    Rule rule;
    rule_of(rule, rates);
    without_gil([&] { take_step(state.after, state.before, rule, {threads, set}); });
}

template <class Rule>
Pass py_average_and_step(const InstructionSet& set, std::vector<Array> out,
                         const std::vector<Array>& before, const std::vector<double>& rates,
                         const std::vector<py::object>& rows, const std::vector<double>& weights,
                         unsigned threads) {
    require_weights(weights, rows.size());
    const State state = state_of(out, before, is_adaptive<Rule>, false);
    Rule rule;
    rule_of(rule, rates);
    const auto values = rows_of(rows, state.before.w.size());
    std::vector<RowStats> stats(rows.size());
    without_gil([&] {
        average_and_step(state.after, state.before, rule, values, weights, stats, {threads, set});
    });
    return unzip(stats);
}

void py_proximal(const InstructionSet& set, Array gradient, const Array& weights,
                 const Array& anchor, double mu, unsigned threads) {
    const auto target = output<float>(gradient, size_of(gradient));
    const auto here = input<float>(weights, target.size());
    const auto there = input<float>(anchor, target.size());
    without_gil([&] { proximal(target, here, there, mu, {threads, set}); });
}

// training is (w, m, v), changed in place; rates are those of AdamW.
void py_train_step(const InstructionSet& set, std::array<Array, 3> training, const Array& gradient,
                   double scale, const std::array<double, 5>& rates, unsigned threads) {
    const std::size_t size = size_of(gradient);
    const auto along = input<float>(gradient, size);
    const Training vectors{output<float>(training[0], size), output<float>(training[1], size),
                           output<float>(training[2], size)};
    const AdamW rule{rates[0], rates[1], rates[2], rates[3], rates[4]};
    without_gil([&] { train_step(vectors, along, scale, rule, {threads, set}); });
}

}  // namespace
}  // namespace llmagentos

PYBIND11_MODULE(_native, module) {
    using namespace llmagentos;
    module.doc() =
        "Compiled twins of llmagentos.kernels.reference: the same functions, the same bits.";
    py::class_<InstructionSet> kernels(module, "Kernels");
    kernels.def_property_readonly("name", [](const InstructionSet& set) { return set.name; })
        .def("weighted_sum", &py_weighted_sum)
        .def("average_step", &py_average_step)
        .def("inspect", &py_inspect)
        .def("momentum_step", &py_step<Momentum>)
        .def("average_momentum_step", &py_average_and_step<Momentum>)
        .def("adam_step", &py_step<Adam>)
        .def("average_adam_step", &py_average_and_step<Adam>)
        .def("yogi_step", &py_step<Yogi>)
        .def("average_yogi_step", &py_average_and_step<Yogi>)
        .def("adagrad_step", &py_step<Adagrad>)
        .def("average_adagrad_step", &py_average_and_step<Adagrad>)
        .def("proximal", &py_proximal)
        .def("train_step", &py_train_step);
    add_robust(kernels);
    py::list sets;
    for (const InstructionSet* set : instruction_sets()) {
        sets.append(py::cast(set, py::return_value_policy::reference));
    }
    module.attr("instruction_sets") = py::tuple(sets);
}
