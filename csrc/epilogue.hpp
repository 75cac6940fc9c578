// What becomes of the sums of a block: written, added to the anchor, or taken as a step's delta.
// The end of chunk.hpp, and local to each instruction set as that is.
#pragma once

namespace llmagentos {
namespace {

// The results of one block: first in the nearest cache, then to their place.
struct Staged {
    alignas(line_bytes) float values[block_size];

    void put(std::span<float> out, Block block) const {
        float* place = out.data() + block.start;
        if (out.size() >= stream_size) {
            stream(place, values, block.count);
        } else {
            std::memcpy(place, values, block.count * sizeof(float));
        }
    }
};

void narrow_sums(Staged& staged, Block block, const double* sums) {
    for (std::size_t j = 0; j < block.count; ++j) staged.values[j] = narrow(sums[j]);
}

void write_sums(std::span<float> out, Block block, const double* sums) {
    Staged staged;
    narrow_sums(staged, block, sums);
    staged.put(out, block);
}

void write_step(std::span<float> out, std::span<const float> anchor, double lr, Block block,
                const double* sums) {
    Staged staged;
    const float* start = anchor.data() + block.start;
    for (std::size_t j = 0; j < block.count; ++j) {
        staged.values[j] = server_step(start[j], sums[j], lr);
    }
    staged.put(out, block);
}

// One block of the server's step; delta is the block's own.
void write_step(After after, Before before, Momentum rule, Block block, const float* delta) {
    Staged m, w;
    const float *old_w = before.w.data() + block.start, *old_m = before.m.data() + block.start;
    for (std::size_t j = 0; j < block.count; ++j) {
        m.values[j] = heavy_ball(old_m[j], delta[j], rule.beta);
        w.values[j] = server_step(old_w[j], double{m.values[j]}, rule.lr);
    }
    m.put(after.m, block);
    w.put(after.w, block);
}

template <class Rule>
void write_step(After after, Before before, Rule rule, Block block, const float* delta) {
    Staged m, v, w;
    const float *old_w = before.w.data() + block.start, *old_m = before.m.data() + block.start,
                *old_v = before.v.data() + block.start;
    for (std::size_t j = 0; j < block.count; ++j) {
        m.values[j] = rule.first_moment(old_m[j], delta[j]);
        v.values[j] = rule.second_moment(old_v[j], delta[j]);
        w.values[j] = rule.weight(old_w[j], m.values[j], std::sqrt(double{v.values[j]}));
    }
    m.put(after.m, block);
    v.put(after.v, block);
    w.put(after.w, block);
}

void weighted_sum(std::span<float> out, const Cohort& cohort, Chunk chunk, RowStats* stats) {
    sum_chunk(cohort, chunk, stats,
              [&](Block block, const double* sums) { write_sums(out, block, sums); });
}

void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  const Cohort& cohort, Chunk chunk, RowStats* stats) {
    sum_chunk(cohort, chunk, stats,
              [&](Block block, const double* sums) { write_step(out, anchor, lr, block, sums); });
}

void accumulate(std::span<double> sums, Row row, double weight, Chunk chunk, RowStats* stats) {
    const Group group{0, 1};
    const Cohort cohort{{&row, 1}, {&weight, 1}, {&group, 1}};
    for_each_block(chunk, [&](Block block) {
        double* place = sums.data() + block.start;
        if (block.count == block_size) {
            add_group(place, cohort, group, block, Ahead(), stats);
            return;
        }
        double here[block_size] = {};
        std::memcpy(here, place, block.count * sizeof(double));
        add_group(here, cohort, group, block, Ahead(), stats);
        std::memcpy(place, here, block.count * sizeof(double));
    });
}

void inspect(Row row, Chunk chunk, RowStats* stats) {
    const double weight = 0.0;
    const Group group{0, 1};
    const Cohort cohort{{&row, 1}, {&weight, 1}, {&group, 1}};
    sum_chunk(cohort, chunk, stats, [](Block, const double*) {});
}

void finish(std::span<float> out, std::span<const double> sums, Chunk chunk) {
    for_each_block(chunk, [&](Block block) { write_sums(out, block, sums.data() + block.start); });
    finish_stream();
}

void finish_step(std::span<float> out, std::span<const float> anchor, double lr,
                 std::span<const double> sums, Chunk chunk) {
    for_each_block(
        chunk, [&](Block block) { write_step(out, anchor, lr, block, sums.data() + block.start); });
    finish_stream();
}

template <class Rule>
void step(After after, Before before, Rule rule, Chunk chunk) {
    for_each_block(chunk, [&](Block block) {
        write_step(after, before, rule, block, before.delta.data() + block.start);
    });
    finish_stream();
}

template <class Rule>
void average_and_step(After after, Before before, Rule rule, const Cohort& cohort, Chunk chunk,
                      RowStats* stats) {
    sum_chunk(cohort, chunk, stats, [&](Block block, const double* sums) {
        Staged delta;
        narrow_sums(delta, block, sums);
        write_step(after, before, rule, block, delta.values);
    });
}

void proximal(std::span<float> gradient, std::span<const float> weights,
              std::span<const float> anchor, double mu, Chunk chunk) {
    float* __restrict place = gradient.data();
    const float *here = weights.data(), *there = anchor.data();
    for (std::size_t j = chunk.start; j < chunk.stop; ++j) {
        place[j] = proximal_gradient(place[j], here[j], there[j], mu);
    }
}

template <class Rule>
constexpr RuleSteps<Rule> steps_of() {
    return {step<Rule>, average_and_step<Rule>};
}

constexpr InstructionSet instruction_set(std::string_view name) {
    return {.name = name,
            .group_limit = group_limit,
            .weighted_sum = weighted_sum,
            .average_step = average_step,
            .inspect = inspect,
            .accumulate = accumulate,
            .finish = finish,
            .finish_step = finish_step,
            .momentum = steps_of<Momentum>(),
            .adam = steps_of<Adam>(),
            .yogi = steps_of<Yogi>(),
            .adagrad = steps_of<Adagrad>(),
            .proximal = proximal};
}

}  // namespace
}  // namespace llmagentos
