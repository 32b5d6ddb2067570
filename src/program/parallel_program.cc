#include "program/parallel_program.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"

namespace nereid::program {

namespace {

// Between numbers of exchanges that were given up and the next: more than any step has.
constexpr std::uint32_t kEpochGap = 1 << 16;

void connect(std::span<device::Device* const> devices) {
  for (auto* device : devices)
    for (auto* peer : devices) {
      if (device == peer) continue;
      if (device->info().target != peer->info().target)
        throw Error("{} is of {}, {} of {}: expected devices of one kind for one model",
                    device->info().name, device->info().target, peer->info().name,
                    peer->info().target);
      device->admit(peer->info());
    }
}

}  // namespace

ParallelProgram::ParallelProgram(std::span<device::Device* const> devices,
                                 const model::ModelConfig& config, const Options& options,
                                 const ProgressSink& progress)
    : checks_ranks_(options.check_ranks) {
  NEREID_CHECK(!devices.empty(), "no device");
  model::check_ranks(config, std::ssize(devices));
  connect(devices);
  open(devices, config, options, progress);
  if (!is_parallel()) return;
  RankThreads::Watch watch;
  for (const auto* device : devices)
    watch.names.push_back(fmt::format("rank {} ({})", watch.names.size(), device->info().name));
  watch.progress = [programs = programs_] {
    std::uint64_t n = 0;
    for (const auto& program : programs) n += program->progress();
    return n;
  };
  watch.stop = [programs = programs_] {
    for (const auto& program : programs) program->stop_waiting();
  };
  watch.deadline = std::chrono::milliseconds(
      static_cast<std::int64_t>(std::ceil(options.rank_deadline_s * 1000.0)));
  names_ = watch.names;
  threads_ = std::make_unique<RankThreads>(std::move(watch));
}

// Nobody's inbox goes away while others may still write into it.
ParallelProgram::~ParallelProgram() {
  if (!is_parallel() || !threads_) return;
  try {
    recover();
  } catch (const Error&) {
    // There is nobody to tell; the threads are waited for.
  }
}

// Weights are read by all at the same time.
void ParallelProgram::open(std::span<device::Device* const> devices,
                           const model::ModelConfig& config, const Options& options,
                           const ProgressSink& progress) {
  const auto n_ranks = std::ssize(devices);
  programs_.resize(devices.size());
  if (n_ranks == 1) {
    programs_[0] = std::make_shared<Program>(*devices[0], config, options,
                                             std::optional<kernel::Bundle>(), progress);
    return;
  }
  Meeting meeting(n_ranks);
  std::mutex mutex;
  std::exception_ptr failure;  // the first: others fail because of it
  const auto open_one = [&](std::int64_t rank) {
    const auto at = static_cast<std::size_t>(rank);
    try {
      programs_[at] = std::make_shared<Program>(
          *devices[at], config, options, std::optional<kernel::Bundle>(),
          rank == 0 ? progress : ProgressSink(), Rank{{rank, n_ranks}, &meeting});
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
      meeting.give_up();
    }
  };
  std::vector<std::thread> threads;
  for (std::int64_t rank = 1; rank < n_ranks; ++rank) threads.emplace_back(open_one, rank);
  open_one(0);
  for (auto& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

std::int64_t ParallelProgram::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& program : programs_) bytes += program->weight_bytes();
  return bytes;
}

MemoryUse ParallelProgram::memory_use() const {
  MemoryUse all;
  for (const auto& program : programs_) {
    const auto of_rank = program->memory_use();
    all.weight_bytes += of_rank.weight_bytes;
    all.cache_bytes += of_rank.cache_bytes;
    all.activation_bytes += of_rank.activation_bytes;
    all.peak_bytes += of_rank.peak_bytes;
  }
  return all;
}

void ParallelProgram::warm() {
  if (!is_parallel()) return programs_[0]->warm();
  threads_->run([programs = programs_](std::size_t rank) { programs[rank]->warm(); });
}

StepInputs& ParallelProgram::begin(const Step& step) {
  for (std::size_t rank = 1; rank < programs_.size(); ++rank) programs_[rank]->begin(step);
  return programs_[0]->begin(step);
}

void ParallelProgram::queue(const Step& step) {
  if (!is_parallel()) return programs_[0]->queue(step);
  for (std::size_t rank = 1; rank < programs_.size(); ++rank)
    programs_[rank]->copy_inputs(first().inputs());
  threads_->run([programs = programs_, step](std::size_t rank) { programs[rank]->queue(step); });
  if (checks_ranks_) compare_ranks();
}

void ParallelProgram::queue_tail(std::span<const std::int32_t> slots) {
  if (!is_parallel()) return programs_[0]->queue_tail(slots);
  for (std::size_t rank = 1; rank < programs_.size(); ++rank)
    for (const auto slot : slots)
      std::ranges::copy(programs_[0]->mask(slot), programs_[rank]->mask(slot).begin());
  threads_->run([programs = programs_, own = std::vector(slots.begin(), slots.end())](
                    std::size_t rank) { programs[rank]->queue_tail(own); });
}

StepOutput ParallelProgram::wait() {
  if (!is_parallel()) return programs_[0]->wait();
  // Of the first rank; the others chose the same ids.
  const auto output = std::make_shared<StepOutput>();
  threads_->run([programs = programs_, output](std::size_t rank) {
    const auto of_rank = programs[rank]->wait();
    if (rank == 0) *output = of_rank;
  });
  return *output;
}

void ParallelProgram::recover() {
  if (!is_parallel()) return programs_[0]->recover();
  // Later than that of every rank, which count around the end of 32 bits.
  auto epoch = static_cast<std::uint32_t>(first().epoch());
  for (const auto& program : programs_) {
    const auto of_rank = static_cast<std::uint32_t>(program->epoch());
    if (static_cast<std::int32_t>(of_rank - epoch) > 0) epoch = of_rank;
  }
  epoch += kEpochGap;
  threads_->run([programs = programs_, epoch](std::size_t rank) {
    programs[rank]->recover();
    programs[rank]->set_epoch(static_cast<std::int32_t>(epoch));
  });
}

void ParallelProgram::write_state(const std::string& name, std::size_t begin_bytes,
                                  std::span<const std::byte> bytes) {
  for (const auto& program : programs_) program->write_state(name, begin_bytes, bytes);
}

void ParallelProgram::compare_ranks() const {
  const auto expected = first().exchange_hashes();
  for (std::size_t rank = 1; rank < programs_.size(); ++rank) {
    const auto got = programs_[rank]->exchange_hashes();
    const auto differs = std::ranges::mismatch(expected, got);
    if (differs.in1 == expected.end() && differs.in2 == got.end()) continue;
    throw Error(ErrorCode::internal, "{} and {} differ after exchange {} of {} of a step",
                names_[0], names_[rank], differs.in1 - expected.begin(), expected.size());
  }
}

}  // namespace nereid::program
