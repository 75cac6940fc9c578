// How arrays of NumPy become the spans and rows of the kernels; only module*.cpp include this.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cfenv>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <utility>
#include <vector>

#include "instructions.hpp"

namespace llmagentos {

namespace py = pybind11;

using Array = py::array;
using Stats = std::pair<double, std::int64_t>;
using Pass = std::pair<std::vector<double>, std::vector<std::int64_t>>;

inline void require(bool holds, const char* what) {
    if (!holds) throw py::value_error(what);
}

inline bool is_flat(const Array& array, std::size_t size) {
    const auto length = static_cast<std::size_t>(array.size());
    const bool dense = array.size() < 2 || array.strides(0) == array.itemsize();
    return array.ndim() == 1 && length == size && dense;
}

template <class Value>
void require_vector(const Array& array, std::size_t size) {
    require(py::isinstance<py::array_t<Value>>(array), "an array has another element type");
    require(is_flat(array, size), "an array is not a contiguous vector of the common length");
    require(reinterpret_cast<std::uintptr_t>(array.data()) % alignof(Value) == 0,
            "an array is not aligned");
}

template <class Value>
std::span<const Value> input(const Array& array, std::size_t size) {
    require_vector<Value>(array, size);
    return {static_cast<const Value*>(array.data()), size};
}

template <class Value>
std::span<Value> output(Array& array, std::size_t size) {
    require_vector<Value>(array, size);
    require(array.writeable(), "an output is read-only");
    return {static_cast<Value*>(array.mutable_data()), size};
}

inline std::size_t size_of(const Array& array) { return static_cast<std::size_t>(array.size()); }

// ml_dtypes.bfloat16 is no built-in type of NumPy: it shows as two bytes of kind 'V'.
inline Element element_of(const py::dtype& type) {
    if (type.kind() == 'f' && type.itemsize() == 4) return Element::float32;
    if (type.kind() == 'f' && type.itemsize() == 2) return Element::float16;
    require(type.kind() == 'V' && type.itemsize() == 2,
            "a row is neither float32, float16 nor bfloat16");
    return Element::bfloat16;
}

inline Row dense_row(const Array& array, std::size_t size) {
    require(is_flat(array, size), "a row is not a contiguous vector of the common length");
    return {static_cast<const std::byte*>(array.data()), element_of(array.dtype())};
}

inline Row int8_row(const Array& values, const Array& scales, std::size_t size) {
    const std::size_t groups = (size + scale_group - 1) / scale_group;
    require(py::isinstance<py::array_t<std::int8_t>>(values) && is_flat(values, size),
            "the values of a scaled row are no int8 vector of the common length");
    require(py::isinstance<py::array_t<float>>(scales) && is_flat(scales, groups),
            "the scales of a scaled row are no float32 vector with one for every 128 values");
    return {static_cast<const std::byte*>(values.data()), Element::int8,
            static_cast<const std::byte*>(scales.data())};
}

// An array, or a pair of int8 values and float32 scales.
inline Row row_of(const py::object& row, std::size_t size) {
    if (!py::isinstance<py::tuple>(row)) {
        require(py::isinstance<Array>(row), "a row is no array");
        return dense_row(py::reinterpret_borrow<Array>(row), size);
    }
    const auto parts = py::reinterpret_borrow<py::tuple>(row);
    require(parts.size() == 2 && py::isinstance<Array>(parts[0]) && py::isinstance<Array>(parts[1]),
            "a scaled row is no pair of arrays");
    return int8_row(py::reinterpret_borrow<Array>(parts[0]),
                    py::reinterpret_borrow<Array>(parts[1]), size);
}

template <class Object>
std::vector<Row> rows_of(const std::vector<Object>& objects, std::size_t size) {
    std::vector<Row> rows;
    rows.reserve(objects.size());
    for (const Object& object : objects) rows.push_back(row_of(object, size));
    return rows;
}

// How many values a row has.
inline std::size_t row_size(const py::object& row) {
    return py::len(py::isinstance<py::tuple>(row) ? py::object(py::tuple(row)[0]) : row);
}

// While there is one, this thread and those that it starts compute as arithmetic.hpp has it; then
// the caller's rounding, its denormals and its flags are back.
class DefaultArithmetic {
  public:
    DefaultArithmetic() {
        std::fegetenv(&callers_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultArithmetic() { std::fesetenv(&callers_); }
    DefaultArithmetic(const DefaultArithmetic&) = delete;
    DefaultArithmetic& operator=(const DefaultArithmetic&) = delete;

  private:
    std::fenv_t callers_;
};

// The lock is not taken back in a destructor, as pybind11 does it: Python up to 3.13 ends a daemon
// thread in there when the program ends, which unwinds the stack, and that no destructor may do.
template <class Call>
void without_gil(const Call& call) {
    std::exception_ptr failure;
    PyThreadState* const state = PyEval_SaveThread();
    try {
        const DefaultArithmetic arithmetic;
        call();
    } catch (...) {
        failure = std::current_exception();
    }
    PyEval_RestoreThread(state);
    if (failure) std::rethrow_exception(failure);
}

inline Pass unzip(const std::vector<RowStats>& stats) {
    Pass pass;
    for (const RowStats& row : stats) {
        pass.first.push_back(row.squared_norm);
        pass.second.push_back(row.nonfinite);
    }
    return pass;
}

inline void require_weights(const std::vector<double>& weights, std::size_t rows) {
    require(weights.size() == rows, "there are not as many weights as rows");
    for (const double weight : weights) {
        require(weight <= weight_limit && weight >= -weight_limit, "a weight is beyond 2^800");
    }
}

}  // namespace llmagentos
