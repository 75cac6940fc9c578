#include "module_robust.hpp"

namespace llmagentos {
namespace {

Pass py_trimmed_mean(const InstructionSet& set, Array out, const std::vector<py::object>& rows,
                     std::size_t trim, unsigned threads) {
    require(rows.size() <= sorted_rows_limit, "there are more than 256 rows to sort");
    require(trim < rows.size() && 2 * trim < rows.size(), "trim leaves no row");
    const auto means = output<float>(out, size_of(out));
    const auto values = rows_of(rows, means.size());
    std::vector<RowStats> stats(rows.size());
    without_gil([&] { trimmed_mean(means, values, trim, stats, {threads, set}); });
    return unzip(stats);
}

using OfPairs = void (*)(std::span<double>, std::span<const Row>, std::size_t, Workers);

template <OfPairs of_pairs>
void py_pairs(const InstructionSet& set, Array matrix, const std::vector<py::object>& rows,
              unsigned threads) {
    const auto sums = output<double>(matrix, rows.size() * rows.size());
    const std::size_t size = rows.empty() ? 0 : row_size(rows[0]);
    const auto values = rows_of(rows, size);
    without_gil([&] { of_pairs(sums, values, size, {threads, set}); });
}

void py_ring_sum(const InstructionSet& set, Array out, const std::vector<Array>& rows,
                 unsigned threads) {
    const auto sums = output<std::uint32_t>(out, size_of(out));
    std::vector<const std::byte*> values;
    for (const Array& row : rows) {
        require(py::isinstance<py::array_t<std::uint32_t>>(row), "a row is not uint32");
        require(is_flat(row, sums.size()), "a row is not a contiguous vector of the common length");
        values.push_back(static_cast<const std::byte*>(row.data()));
    }
    without_gil([&] { ring_sum(sums, values, {threads, set}); });
}

}  // namespace

void add_robust(py::class_<InstructionSet>& kernels) {
    kernels.def("trimmed_mean", &py_trimmed_mean)
        .def("squared_distances", &py_pairs<squared_distances>)
        .def("inner_products", &py_pairs<inner_products>)
        .def("ring_sum", &py_ring_sum);
}

}  // namespace llmagentos
