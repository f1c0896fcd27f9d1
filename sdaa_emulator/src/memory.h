// The memory of the emulated cards: one arena a card, seen at two addresses.
//
// Paddle gets the card's address. In strict mode that view is not accessible, so that code which touches a card's memory
// from the host crashes as it would with a real card; the emulator itself works through the host's view.
#pragma once

#include <cstddef>

namespace emulator {

bool allocate(int card, std::size_t size, void** address);  // false: out of memory, and says so
void release(int card, void* address, std::size_t size);
void memory_of(int card, std::size_t* total, std::size_t* unused);

void* host_view(const void* address);  // addresses of the host stay as they are

}  // namespace emulator
