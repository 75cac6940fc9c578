// One pass over the rows: sums, the server's step, norms and finiteness.
#include <cassert>
#include <vector>

#include "blocks.hpp"
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

    std::span<RowStats> of(Chunk chunk) {
        return std::span(parts_).subspan(chunk.index * rows_, rows_);
    }
    RowStats total(std::size_t row) const {
        RowStats sum;
        for (std::size_t i = row; i < parts_.size(); i += rows_) sum += parts_[i];
        return sum;
    }

  private:
    std::size_t rows_;
    std::vector<RowStats> parts_;
};

struct Block {
    std::size_t start, count;
};

template <class Work>
void for_each_block(Chunk chunk, const Work& work) {
    for (std::size_t start = chunk.start; start < chunk.stop; start += block_size) {
        work(Block{start, std::min(block_size, chunk.stop - start)});
    }
}

// Adds the next n rows to the sums of a block and their statistics to stats.
template <std::size_t n>
void add_group(SumBlock& sums, Block block, const Row* rows, const double* weights,
               RowStats* stats) {
    std::array<FloatBlock, n> scratch;
    std::array<const std::byte*, n> values;
    std::array<double, n> factors;
    for (std::size_t k = 0; k < n; ++k) {
        values[k] = float_block(rows[k], block.start, block.count, scratch[k]);
        factors[k] = weights[k];
    }
    add_rows(sums.data(), values, factors);
    for (std::size_t k = 0; k < n; ++k) stats[k] += block_stats(values[k]);
}

// Adds the rows in order: as many groups of n as there are, then smaller groups.
template <std::size_t n>
void add_groups(SumBlock& sums, Block block, std::span<const Row> rows,
                std::span<const double> weights, std::span<RowStats> stats) {
    std::size_t k = 0;
    for (; k + n <= rows.size(); k += n) {
        add_group<n>(sums, block, &rows[k], &weights[k], &stats[k]);
    }
    if constexpr (n > 1) {
        add_groups<n / 2>(sums, block, rows.subspan(k), weights.subspan(k), stats.subspan(k));
    }
}

// Calls write(block, sums) with the finished sums of every block.
template <class Write>
void sum_rows(std::size_t size, std::span<const Row> rows, std::span<const double> weights,
              std::span<RowStats> stats, unsigned threads, const Write& write) {
    assert(rows.size() == weights.size() && rows.size() == stats.size());
    ChunkStats parts(size, rows.size());
    for_each_chunk(size, threads, [&](Chunk chunk) {
        for_each_block(chunk, [&](Block block) {
            SumBlock sums{};
            add_groups<group_size>(sums, block, rows, weights, parts.of(chunk));
            write(block, sums);
        });
    });
    for (std::size_t k = 0; k < rows.size(); ++k) stats[k] = parts.total(k);
}

}  // namespace

void weighted_sum(std::span<float> out, std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, unsigned threads) {
    sum_rows(out.size(), rows, weights, stats, threads, [&](Block block, const SumBlock& sums) {
        for (std::size_t j = 0; j < block.count; ++j) out[block.start + j] = narrow(sums[j]);
    });
}

void average_step(std::span<float> out, std::span<const float> anchor, double lr,
                  std::span<const Row> rows, std::span<const double> weights,
                  std::span<RowStats> stats, unsigned threads) {
    assert(anchor.size() == out.size());
    sum_rows(out.size(), rows, weights, stats, threads, [&](Block block, const SumBlock& sums) {
        for (std::size_t j = block.start; j < block.start + block.count; ++j) {
            out[j] = server_step(anchor[j], sums[j - block.start], lr);
        }
    });
}

RowStats inspect(Row row, std::size_t size, unsigned threads) {
    ChunkStats parts(size, 1);
    for_each_chunk(size, threads, [&](Chunk chunk) {
        for_each_block(chunk, [&](Block block) {
            FloatBlock scratch;
            parts.of(chunk)[0] += block_stats(float_block(row, block.start, block.count, scratch));
        });
    });
    return parts.total(0);
}

RowStats accumulate(std::span<double> sums, Row row, double weight, unsigned threads) {
    ChunkStats parts(sums.size(), 1);
    for_each_chunk(sums.size(), threads, [&](Chunk chunk) {
        for_each_block(chunk, [&](Block block) {
            SumBlock here{};
            const auto place = sums.subspan(block.start, block.count);
            std::copy(place.begin(), place.end(), here.begin());
            add_group<1>(here, block, &row, &weight, parts.of(chunk).data());
            std::copy_n(here.begin(), block.count, place.begin());
        });
    });
    return parts.total(0);
}

}  // namespace llmagentos
