#include "measure/trace.h"

#include <chrono>

#include "device/registry.h"
#include "engine/generator.h"
#include "engine/session.h"
#include "measure/workload.h"
#include "model/config.h"

namespace nereid::measure {

Trace record_trace(const TraceOptions& options) {
  const auto config = model::ModelConfig::load(options.engine.model_dir);
  RecordingDevice device(
      device::open_device({.name = options.engine.device, .n_threads = options.engine.n_threads}),
      /*may_capture=*/false);
  const Workload workload{options.n_batch, options.n_prompt_tokens, options.n_steps, 1};
  auto engine = engine_options(options.engine, workload);
  // What graph mode captures are the launches of compiled mode.
  if (engine.mode == "graph") engine.mode = "compiled";
  const auto runner = engine::Runner::create(device, config, engine);
  const auto requests = make_requests(workload, config.vocab_size);
  const auto run = [&](const auto& after_step) {
    engine::Generator generator(*runner, /*eos_ids=*/{});
    generator.set_works_ahead(false);
    for (const auto& request : requests) generator.submit(request);
    const auto ignore = [](const engine::AnswerEvent&) { return false; };
    for (bool is_going = true; is_going; after_step()) is_going = generator.step(ignore);
  };
  run([] {});  // what is made or loaded when first used is there then

  Trace trace;
  trace.device = device.info();
  device.start_trace();
  const auto begin = std::chrono::steady_clock::now();
  const auto now_us = [&] {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
        .count();
  };
  double step_begin_us = 0;
  std::uint64_t n_before = device.n_launches();
  std::size_t first = 0;
  run([&] {
    const auto n = static_cast<std::size_t>(device.n_launches() - n_before);
    trace.steps.push_back({first, n, step_begin_us, now_us()});
    first += n;
    n_before = device.n_launches();
    step_begin_us = now_us();
  });
  trace.launches = device.end_trace();
  trace.objects = device.objects();
  return trace;
}

}  // namespace nereid::measure
