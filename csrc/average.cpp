// One pass over the rows: sums, the server's step, norms and finiteness.
#include <cassert>
#include <vector>

#include "threads.hpp"

namespace llmagentos {
namespace {

void operator+=(RowStats& total, RowStats part) {
    total.squared_norm += part.squared_norm;
    total.nonfinite += part.nonfinite;
}

// What every row gave in every chunk; added up in the order of the chunks.
class ChunkStats {
  public:
    ChunkStats(std::size_t size, std::size_t rows) : rows_(rows), parts_(chunks_of(size) * rows) {}

    RowStats* of(Chunk chunk) { return parts_.data() + chunk.index * rows_; }
    RowStats total(std::size_t row) const {
        RowStats sum;
        for (std::size_t i = row; i < parts_.size(); i += rows_) sum += parts_[i];
        return sum;
    }

  private:
    std::size_t rows_;
    std::vector<RowStats> parts_;
};

// Measured on an Intel Xeon and on an AMD EPYC of the fourth generation. Few rows are added in
// registers to the last. Of many rows some are read for a while: rows that are left soon are not
// found again where they were. AMD's first cache has eight places for the lines that begin where
// these do in their pages, so rows that are asked for into it drive each other out.
Pace pace_of(std::span<const Row> rows) {
    if (is_amd()) return {block_size, 8, {2048, true}};
    if (rows.size() <= 48) return {tile_size, rows.size(), {512, false}};
    return {block_size, 8, {768, false}};
}

std::vector<double> exact_weights(std::span<const double> weights) {
    std::vector<double> exact;
    exact.reserve(weights.size());
    for (const double weight : weights) {
        assert(weight <= weight_limit && weight >= -weight_limit);
        exact.push_back(exact_weight(weight));
    }
    return exact;
}

struct Rows {
    std::span<const Row> rows;
    std::span<const double> weights;
    std::span<RowStats> stats;
};

// The room that a thread has for every row.
struct Workroom {
    explicit Workroom(std::size_t rows) : squares(rows), factors(rows) {}

    std::vector<Lanes> squares;
    std::vector<Factors> factors;
};

// Calls work(cohort, chunk, scratch) for every chunk.
template <class Work>
void pass(std::size_t size, const Rows& all, Workers workers, const Work& work) {
    const auto& [rows, weights, stats] = all;
    assert(rows.size() == weights.size() && rows.size() == stats.size());
    const Pace pace = pace_of(rows);
    const std::vector<Group> groups = groups_of(rows, pace.rows);
    const std::vector<double> exact = exact_weights(weights);
    const Cohort cohort{rows, exact, groups, pace};
    ChunkStats parts(size, rows.size());
    std::vector<Workroom> rooms(crew_of(size, workers.threads), Workroom(rows.size()));
    for_each_chunk(size, rooms, [&](Chunk chunk, Workroom& room) {
        work(cohort, chunk, {parts.of(chunk), room.squares.data(), room.factors.data()});
    });
    for (std::size_t k = 0; k < rows.size(); ++k) stats[k] = parts.total(k);
}

template <class Rule>
void step_pass(After after, Before before, Rule rule, const Rows& rows, Workers workers,
               const RuleSteps<Rule>& steps) {
    assert(before.w.size() == after.w.size() && before.m.size() == after.w.size());
    pass(after.w.size(), rows, workers, [&](const Cohort& cohort, Chunk chunk, Scratch scratch) {
        steps.average_and_step(after, before, rule, cohort, chunk, scratch);
    });
}

}  // namespace

void weighted_sum(std::span<float> out, std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, Workers workers) {
    pass(out.size(), {rows, weights, stats}, workers,
         [&](const Cohort& cohort, Chunk chunk, Scratch scratch) {
             workers.instructions.weighted_sum(out, cohort, chunk, scratch);
         });
}

void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, Workers workers) {
    assert(anchor.size() == out.size());
    pass(out.size(), {rows, weights, stats}, workers,
         [&](const Cohort& cohort, Chunk chunk, Scratch scratch) {
             workers.instructions.average_step(out, anchor, lr, cohort, chunk, scratch);
         });
}

void average_and_step(After after, Before before, Momentum rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers) {
    step_pass(after, before, rule, {rows, weights, stats}, workers, workers.instructions.momentum);
}

void average_and_step(After after, Before before, Adam rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers) {
    step_pass(after, before, rule, {rows, weights, stats}, workers, workers.instructions.adam);
}

void average_and_step(After after, Before before, Yogi rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers) {
    step_pass(after, before, rule, {rows, weights, stats}, workers, workers.instructions.yogi);
}

void average_and_step(After after, Before before, Adagrad rule, std::span<const Row> rows,
                      std::span<const double> weights, std::span<RowStats> stats, Workers workers) {
    step_pass(after, before, rule, {rows, weights, stats}, workers, workers.instructions.adagrad);
}

void trimmed_mean(std::span<float> out, std::span<const Row> rows, std::size_t trim,
                  std::span<RowStats> stats, Workers workers) {
    assert(2 * trim < rows.size() && rows.size() <= sorted_rows_limit);
    const std::vector<Comparator> network =
        trimmed_network(rows.size(), trim, workers.instructions.run_limit);
    const std::vector<double> unread(rows.size());
    pass(out.size(), {rows, unread, stats}, workers,
         [&](const Cohort& cohort, Chunk chunk, Scratch scratch) {
             workers.instructions.trimmed_mean(out, {network, trim}, cohort, chunk, scratch);
         });
}

RowStats inspect(Row row, std::size_t size, Workers workers) {
    ChunkStats parts(size, 1);
    for_each_chunk(size, workers.threads, [&](Chunk chunk) {
        Lanes squares;
        Factors factors;
        workers.instructions.inspect(row, chunk, {parts.of(chunk), &squares, &factors});
    });
    return parts.total(0);
}

}  // namespace llmagentos
