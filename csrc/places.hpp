// Where the values of a row can be read, as they lie or widened.
// Part of chunk.hpp, and local to each instruction set as that is.
#pragma once

#include <cstring>

#include "instructions.hpp"
#include "output.hpp"

namespace llmagentos {
namespace {

constexpr std::size_t floats_at_once = sizeof(Floats) / sizeof(float);

template <class Work>
void for_each_range(std::size_t start, std::size_t stop, std::size_t size, const Work& work) {
    for (; start < stop; start += size) {
        const std::size_t left = stop - start;
        work(Range{start, left < size ? left : size});
    }
}

const std::byte* at(Row row, std::size_t start) {
    return row.values + start * bytes_of(row.element);
}

// Values [start, start + count) of an int8 row as float32; start is a multiple of scale_group, or
// the part lies within one group.
void decode(float* place, Row row, Range part) {
    const auto* bytes = reinterpret_cast<const std::int8_t*>(row.values);
    for_each_range(part.start, part.start + part.count, scale_group, [&](Range group) {
        float scale;
        std::memcpy(&scale, row.scales + group.start / scale_group * sizeof scale, sizeof scale);
        for (std::size_t j = 0; j < group.count; ++j) {
            place[group.start - part.start + j] = from_int8(bytes[group.start + j], scale);
        }
    });
}

// Room for a part of a row that cannot be read as it lies: int8, decoded, and the last values of a
// row, with zeros behind them.
struct Room {
    alignas(line_bytes) std::byte values[block_size * sizeof(float)];

    const std::byte* copy(Row row, Range part, std::size_t size) {
        const bool decoded = row.element == Element::int8;
        const std::size_t width = decoded ? sizeof(float) : bytes_of(row.element);
        if (decoded) {
            decode(reinterpret_cast<float*>(values), row, part);
        } else {
            std::memcpy(values, at(row, part.start), part.count * width);
        }
        std::memset(values + part.count * width, 0, (size - part.count) * width);
        return values;
    }
};

// Where a part of a row can be read: as it lies, else from `room`.
const std::byte* place_of(Row row, Range part, std::size_t size, Room& room) {
    const bool as_it_lies = row.element != Element::int8 && part.count == size;
    return as_it_lies ? at(row, part.start) : room.copy(row, part, size);
}

template <Element element>
void widen_block(double* wide, const std::byte* values) {
    for (std::size_t j = 0; j < block_size; j += lane_count) {
        store(wide + j, widen<element>(values + j * bytes_of(element)));
    }
}

// Missing values at the end of a row are zero.
void widen_block(double* wide, Row row, Range block) {
    Room room;
    const std::byte* values = place_of(row, block, block_size, room);
    if (row.element == Element::float16) {
        widen_block<Element::float16>(wide, values);
    } else if (row.element == Element::bfloat16) {
        widen_block<Element::bfloat16>(wide, values);
    } else {
        widen_block<Element::float32>(wide, values);
    }
}

}  // namespace
}  // namespace llmagentos
