// What happens to one value. CPU and CUDA run these same lines, so they give the same bits:
// IEEE float64, round to nearest, no contraction of a * b + c, denormals kept. Called from Python
// this holds in any floating-point mode of the caller.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace llmagentos {

enum class Element : std::uint8_t { float32, float16, bfloat16, int8 };

constexpr std::size_t bytes_of(Element element) {
    if (element == Element::int8) return 1;
    return element == Element::float32 ? 4 : 2;
}

// Values of an int8 row that share a scale; value j belongs to scale j / scale_group.
constexpr std::size_t scale_group = 128;

// Squared norms are added in one order: value j of a block goes to lane j mod 8, a lane adds its
// values from first to last, the lanes are folded in halves, and then blocks are added from first
// to last into their chunk, chunks into the row. Missing values at the end of a row count as zero.
// A float32 square is exact in float64, so a fused multiply-add gives these bits too. A lane of a
// narrow row adds, for every scale s from first to last, s^2 times the sum of its 16 q^2. Those are
// added in float32: value j of a scale goes to float j mod 16, by a fused multiply-add, and the
// last eight floats are added to the first. Of int8 that sum and s^2 are exact and their product is
// rounded; of 16 bits s is 1 and the sum is rounded: a norm is off by less than 2^-20 of itself and
// by 2^-149 a value, and may be infinite where values are beyond 2^62.
constexpr std::size_t lane_count = 8;
constexpr std::size_t block_size = 1024;
constexpr std::size_t chunk_size = 64 * block_size;

constexpr std::size_t chunks_of(std::size_t size) { return (size + chunk_size - 1) / chunk_size; }

constexpr float infinity = std::numeric_limits<float>::infinity();

// The weight as it is used: rounded to 29 significant bits, and 0 below 2^-800. Times a float32 it
// is exact in float64, so w x + s is rounded once, by a fused multiply-add as by two operations.
// Weights above weight_limit = 2^800 would overflow and are not allowed.
constexpr double weight_limit = 0x1p800;

constexpr double exact_weight(double weight) {
    constexpr std::uint64_t dropped = (std::uint64_t{1} << 24) - 1;
    auto bits = std::bit_cast<std::uint64_t>(weight);
    bits += dropped / 2 + ((bits >> 24) & 1u);
    const auto rounded = std::bit_cast<double>(bits & ~dropped);
    return rounded < 0x1p-800 && rounded > -0x1p-800 ? 0.0 : rounded;
}

constexpr double fold_lanes(std::array<double, lane_count> lanes) {
    for (std::size_t width = lane_count / 2; width > 0; width /= 2) {
        for (std::size_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    }
    return lanes[0];
}

constexpr float from_bfloat16(std::uint16_t bits) {
    return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

// Exact. A subnormal is its integer mantissa times 2^-24; no denormal float32 is touched on the
// way.
constexpr float from_float16(std::uint16_t bits) {
    const std::uint32_t sign = (bits & 0x8000u) << 16;
    const std::uint32_t magnitude = bits & 0x7fffu;
    const std::uint32_t normal = (magnitude << 13) + (112u << 23);
    const std::uint32_t special = (magnitude << 13) | (255u << 23);
    const auto subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
    const std::uint32_t large = magnitude < 0x7c00u ? normal : special;
    return std::bit_cast<float>(
        sign | (magnitude < 0x0400u ? std::bit_cast<std::uint32_t>(subnormal) : large));
}

// What a byte of an int8 row stands for: one product, rounded to float32.
constexpr float from_int8(std::int8_t byte, float scale) {
    return static_cast<float>(byte) * scale;
}

// Narrow rows are those of int8 and of 16 bits, s q with a scale s or with s = 1. Of one type and
// next to each other they are added in float32, at most so many at a time, as groups_of has it; the
// sum of such a group is added in float64. Of each w s q the factor w s is rounded, its product
// with q, and the sum as often as rows follow: a result is off by less than
// (narrow_rows + 3) 2^-24 of sum_k |w_k s_k q_k|, and by 2^-142 a row. Rounding x to s q took up to
// 1 / 127 of the largest |x|, or 2^-8 or 2^-11 of |x|. A w s or a sum beyond float32's range is
// infinite.
constexpr bool is_narrow(Element element) { return element != Element::float32; }

constexpr std::size_t narrow_rows = 16;

constexpr float narrow_factor(double weight, float scale) {
    return static_cast<float>(weight * double{scale});
}

// q is exact in float32.
constexpr float add_narrow(float sum, float factor, float q) { return sum + factor * q; }

// The norm of a block, or of a part of it, that holds NaN, Inf or an s q beyond float32's range is
// not below this.
constexpr double suspect_norm = 0x1p255;

constexpr bool is_finite(float value) {
    return (std::bit_cast<std::uint32_t>(value) & 0x7f800000u) != 0x7f800000u;
}

// Every NaN becomes the one quiet NaN 0x7fc00000.
constexpr float narrow(float value) {
    return value == value ? value : std::bit_cast<float>(0x7fc00000u);
}

// The nearest float32.
constexpr float narrow(double value) { return narrow(static_cast<float>(value)); }

constexpr float server_step(float anchor, double sum, double lr) {
    return narrow(double{anchor} + lr * sum);
}

// g + mu (w - w0). Li et al. 2020, arXiv:1812.06127, equation 2.
constexpr float proximal_gradient(float gradient, float weight, float anchor, double mu) {
    return narrow(double{gradient} + mu * (double{weight} - double{anchor}));
}

// m = beta m + delta; w += lr m. Hsu et al. 2019, arXiv:1909.06335.
struct Momentum {
    double lr, beta;
};

constexpr float heavy_ball(float m, float delta, double beta) {
    return narrow(beta * double{m} + double{delta});
}

// m / (sqrt(v) + small) in float32, where a root and a quotient take a third of the time that they
// take in float64: a step is off by less than 2^-22 of itself, and of a weight it is a small part.
// std::sqrt is not constexpr, so callers take the root.
constexpr float adaptive_step(float m, float root_v, double small) {
    return m / (root_v + static_cast<float>(small));
}

// The lines of Reddi et al. 2021, arXiv:2003.00295, Algorithm 2. Without bias correction; v starts
// at tau^2. Each of m, v, w is computed in float64, but for adaptive_step, and rounded to float32
// once, w from the rounded m and v.
struct Adaptive {
    double lr, beta1, beta2, tau;

    constexpr float first_moment(float m, float delta) const {
        return narrow(beta1 * double{m} + (1.0 - beta1) * double{delta});
    }
    constexpr float weight(float anchor, float m, float root_v) const {
        return narrow(double{anchor} + lr * double{adaptive_step(m, root_v, tau)});
    }
};

struct Adam : Adaptive {
    constexpr float second_moment(float v, float delta) const {
        return narrow(beta2 * double{v} + (1.0 - beta2) * (double{delta} * double{delta}));
    }
};

struct Yogi : Adaptive {
    constexpr float second_moment(float v, float delta) const {
        const double square = double{delta} * double{delta};
        const double gap = double{v} - square;
        const double sign = static_cast<double>(gap > 0.0) - static_cast<double>(gap < 0.0);
        return narrow(double{v} - (1.0 - beta2) * square * sign);
    }
};

struct Adagrad : Adaptive {
    constexpr float second_moment(float v, float delta) const {
        return narrow(double{v} + double{delta} * double{delta});
    }
};

// What a gradient of this norm is multiplied by so that its norm is at most `clip`; 0 clips
// nothing. The small number is torch's.
constexpr double clip_scale(double norm, double clip) {
    const double scale = clip / (norm + 1e-6);
    return clip == 0.0 || scale > 1.0 ? 1.0 : scale;
}

// Step t of AdamW: Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2. keep is
// 1 - lr decay. With r the root of 1 - beta2^t, step_size is r lr / (1 - beta1^t) and small is
// r epsilon, as m / (sqrt(v) / r + epsilon) is r m / (sqrt(v) + small).
// Rounding is as in Adaptive; the gradient comes with its scale, not rounded in between.
struct AdamW {
    double beta1, beta2, small, keep, step_size;

    constexpr float first_moment(float m, double gradient) const {
        return narrow(beta1 * double{m} + (1.0 - beta1) * gradient);
    }
    constexpr float second_moment(float v, double gradient) const {
        return narrow(beta2 * double{v} + (1.0 - beta2) * (gradient * gradient));
    }
    constexpr float weight(float w, float m, float root_v) const {
        return narrow(keep * double{w} - step_size * double{adaptive_step(m, root_v, small)});
    }
};

}  // namespace llmagentos
