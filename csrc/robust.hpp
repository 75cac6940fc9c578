// What looks at every update on its own: order statistics, distances, and masked integer vectors.
//
// n rows, d values, x_k row k, as in kernels.hpp. No result depends on the number of threads or on
// the instruction set; rows may lie at any address, outputs overlap no input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels.hpp"

namespace llmagentos {

// More rows than this are not sorted.
constexpr std::size_t sorted_rows_limit = 256;

// out[j] = the mean of the n - 2 trim middle ones of x_0[j], ..., x_{n-1}[j], where 2 trim < n. NaN
// counts as Inf and -0 as 0: up to trim NaN are cut off as any large value is. The middle ones are
// added in float64 from the smallest up, times 1 over their number, and rounded once. With
// trim = (n - 1) / 2 it is the median. stats[k] describes row k.
void trimmed_mean(std::span<float> out, std::span<const Row> rows, std::size_t trim,
                  std::span<RowStats> stats, Workers workers);

// distances[i n + k] = sum_j (x_i[j] - x_k[j])^2, from the differences, in float64: relative error
// below 1e-12, and 0 where i = k. Terms are added in the order of the squared norms.
void squared_distances(std::span<double> distances, std::span<const Row> rows, std::size_t size,
                       Workers workers);

// products[i n + k] = sum_j x_i[j] x_k[j] in float64, added in the order of the squared norms.
void inner_products(std::span<double> products, std::span<const Row> rows, std::size_t size,
                    Workers workers);

// out[j] = sum_k q_k[j] modulo 2^32. Each q_k points to as many uint32 as out has, at any address.
void ring_sum(std::span<std::uint32_t> out, std::span<const std::byte* const> rows,
              Workers workers);

}  // namespace llmagentos
