// What the environment asks of the emulator, read once.
#pragma once

#include <cstddef>
#include <vector>

namespace emulator {

constexpr int kMostCards = 64;

struct Settings {
  int cards;                 // SDAA_EMULATOR_CARDS: cards of this machine, default 4 as in the documented system
  std::vector<int> visible;  // SDAA_VISIBLE_DEVICES: those of them that this process sees, in this order
  std::size_t memory;        // SDAA_EMULATOR_MEMORY: MiB a card, default 16384
  bool strict;               // SDAA_EMULATOR_STRICT=1: the host cannot touch the cards' memory
};

const Settings& settings();

}  // namespace emulator
