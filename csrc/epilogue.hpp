// What becomes of the sums of a part: written, added to the anchor, or taken as a step's delta.
// The end of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <type_traits>

#include "order.hpp"
#include "pairs.hpp"
#include "ring.hpp"

namespace llmagentos {
namespace {

template <class Sum>
void write_sums(Output& out, Range part, const Sum* sums) {
    float* __restrict room = out.room();
    for (std::size_t j = 0; j < part.count; ++j) room[j] = narrow(sums[j]);
    out.put(part.count);
}

// The anchor is asked for ahead as the rows are.
template <class Sum>
void write_step(Output& out, std::span<const float> anchor, double lr, Range part, const Sum* sums,
                Lead lead) {
    float* __restrict room = out.room();
    const float* start = anchor.data() + part.start;
    for (std::size_t j = 0; j < part.count; j += floats_per_line) {
        ask_ahead(reinterpret_cast<const std::byte*>(start + j), lead);
    }
    for (std::size_t j = 0; j < part.count; ++j) room[j] = server_step(start[j], sums[j], lr);
    out.put(part.count);
}

void write_rule(After after, Before before, Momentum rule, std::size_t count) {
    float* __restrict w = after.w.data();
    float* __restrict m = after.m.data();
    for (std::size_t j = 0; j < count; ++j) {
        m[j] = heavy_ball(before.m[j], before.delta[j], rule.beta);
        w[j] = server_step(before.w[j], double{m[j]}, rule.lr);
    }
}

template <class Rule>
void write_rule(After after, Before before, Rule rule, std::size_t count) {
    float* __restrict w = after.w.data();
    float* __restrict m = after.m.data();
    float* __restrict v = after.v.data();
    for (std::size_t j = 0; j < count; ++j) {
        m[j] = rule.first_moment(before.m[j], before.delta[j]);
        v[j] = rule.second_moment(before.v[j], before.delta[j]);
        w[j] = rule.weight(before.w[j], m[j], std::sqrt(v[j]));
    }
}

// The state that a server's step leaves: w and m, and v where the rule has one.
template <class Rule>
struct StateOutput {
    static constexpr bool has_v = std::is_base_of_v<Adaptive, Rule>;

    Output w, m, v;

    StateOutput(After after, std::size_t start)
        : w(after.w, start), m(after.m, start), v(has_v ? after.v : after.m, start) {}

    // delta holds the values of the part alone.
    void put(Before before, Rule rule, Range part, const float* delta) {
        const auto cut = [&](std::span<const float> vector) {
            return vector.empty() ? vector : vector.subspan(part.start, part.count);
        };
        const Before here{cut(before.w), cut(before.m), cut(before.v), {delta, part.count}};
        const After room{{w.room(), part.count}, {m.room(), part.count}, {v.room(), part.count}};
        write_rule(room, here, rule, part.count);
        w.put(part.count);
        m.put(part.count);
        if constexpr (has_v) v.put(part.count);
    }
    void finish() {
        w.finish();
        m.finish();
        if constexpr (has_v) v.finish();
    }
};

void weighted_sum(std::span<float> out, const Cohort& cohort, Chunk chunk, Scratch scratch) {
    Output output(out, chunk.start);
    sum_chunk(cohort, chunk, scratch,
              [&](Range part, const auto* sums) { write_sums(output, part, sums); });
    output.finish();
}

void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  const Cohort& cohort, Chunk chunk, Scratch scratch) {
    Output output(out, chunk.start);
    sum_chunk(cohort, chunk, scratch, [&](Range part, const auto* sums) {
        write_step(output, anchor, lr, part, sums, cohort.pace.lead);
    });
    output.finish();
}

void inspect(Row row, Chunk chunk, Scratch scratch) {
    const double weight = 0.0;
    const Group group{0, 1};
    const Cohort cohort{{&row, 1}, {&weight, 1}, {&group, 1}, {block_size, 1, {2048, is_amd()}}};
    sum_chunk(cohort, chunk, scratch, [](Range, const auto*) {});
}

template <class Rule>
void step(After after, Before before, Rule rule, Chunk chunk) {
    StateOutput<Rule> output(after, chunk.start);
    for_each_range(chunk.start, chunk.stop, block_size, [&](Range part) {
        output.put(before, rule, part, before.delta.data() + part.start);
    });
    output.finish();
}

template <class Rule>
void average_and_step(After after, Before before, Rule rule, const Cohort& cohort, Chunk chunk,
                      Scratch scratch) {
    StateOutput<Rule> output(after, chunk.start);
    sum_chunk(cohort, chunk, scratch, [&](Range part, const auto* sums) {
        alignas(line_bytes) float delta[block_size];
        for (std::size_t j = 0; j < part.count; ++j) delta[j] = narrow(sums[j]);
        output.put(before, rule, part, delta);
    });
    output.finish();
}

void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, Chunk chunk) {
    float* __restrict place = gradient.data();
    const float *here = weights.data(), *there = anchor.data();
    for (std::size_t j = chunk.start; j < chunk.stop; ++j) {
        place[j] = proximal_gradient(place[j], here[j], there[j], mu);
    }
}

void train_step(Training training, std::span<const float> gradient, double scale, AdamW rule,
                Chunk chunk) {
    float* __restrict w = training.w.data();
    float* __restrict m = training.m.data();
    float* __restrict v = training.v.data();
    const float* __restrict g = gradient.data();
    for (std::size_t j = chunk.start; j < chunk.stop; ++j) {
        const double scaled = scale * double{g[j]};
        m[j] = rule.first_moment(m[j], scaled);
        v[j] = rule.second_moment(v[j], scaled);
        w[j] = rule.weight(w[j], m[j], std::sqrt(v[j]));
    }
}

template <class Rule>
constexpr RuleSteps<Rule> steps_of() {
    return {step<Rule>, average_and_step<Rule>};
}

constexpr InstructionSet instruction_set(std::string_view name) {
    return {.name = name,
            .run_limit = run_limit,
            .weighted_sum = weighted_sum,
            .average_step = average_step,
            .inspect = inspect,
            .momentum = steps_of<Momentum>(),
            .adam = steps_of<Adam>(),
            .yogi = steps_of<Yogi>(),
            .adagrad = steps_of<Adagrad>(),
            .proximal = proximal,
            .train_step = train_step,
            .trimmed_mean = trimmed_mean,
            .squared_distances = sum_pairs<SquaredDifference>,
            .inner_products = sum_pairs<Product>,
            .ring_sum = ring_sum};
}

}  // namespace
}  // namespace llmagentos
