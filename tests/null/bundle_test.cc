#include "kernel/bundle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "kernel/bundle_source.h"

namespace nereid::kernel {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

template <typename Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

const std::string kSourceSha256(64, 'a');

// SOURCE stands for the hash.
constexpr const char* kSpecs = R"text({"schema": 1, "triton": "3.9.0", "kernels": {"mul": {
  "name": "mul", "source_sha256": "SOURCE",
  "params": [
    {"name": "out_ptr", "role": "out", "types": ["fp32"], "shape": ["n"]},
    {"name": "n", "role": "size", "types": ["i32"], "step": true},
    {"name": "BLOCK", "role": "constexpr", "value": null}],
  "grid": ["cdiv(n, BLOCK)", "sizeof(out_ptr)", "1"], "bytes": "n", "flops": "n", "tuned": [],
  "default": {"cpu": {"num_warps": 1, "num_stages": 1}}}}})text";

SpecTable specs() {
  std::string text = kSpecs;
  text.replace(text.find("SOURCE"), 6, kSourceSha256);
  return SpecTable::parse(parse_json(text, "specs"), "specs");
}

KernelRequest request(std::int64_t block) {
  return {"mul", {{"out_ptr", "*fp32:16"}, {"n", "i32"}}, {{"BLOCK", block}}, 1, 1, {}};
}

class BundleTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "nereid-bundle-test-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
    ::setenv("XDG_CACHE_HOME", (dir_ / "cache").c_str(), 1);
    for (const char* variable : {"NEREID_PYTHON", "NEREID_AOT_DIR", "NEREID_TTIR"})
      ::unsetenv(variable);
  }
  void TearDown() override { fs::remove_all(dir_); }

  // Spelt out: nlohmann takes a list of pairs for an object.
  static Json args_json(const std::vector<std::array<std::string, 2>>& args) { return args; }
  static Json variant_json(std::int64_t block, const std::string& object) {
    const std::string sha256 = sha256_hex(object);
    return {{"key", request(block).key()},
            {"kernel", "mul"},
            {"symbol", "mul"},
            {"object", "objects/" + sha256 + ".so"},
            {"object_sha256", sha256},
            {"source_sha256", kSourceSha256},
            {"isa", "x86-64-v3"},
            {"args", args_json({{"out_ptr", "pointer"}, {"n", "i32"}})},
            {"grid", {"cdiv(n, BLOCK)", "sizeof(out_ptr)", "1"}},
            {"num_warps", 1},
            {"n_threads", 1},
            {"shared_bytes", 0},
            {"arena_bytes", 4096},
            {"global_scratch_bytes", 0},
            {"registers", nullptr},
            {"spills", 3}};
  }
  static Json manifest_json() {
    return {{"schema", 2},
            {"target", "cpu"},
            {"triton", "3.9.0"},
            {"compiler", "test"},
            {"variants", {variant_json(8, "object of 8"), variant_json(16, "object of 16")}}};
  }
  static void write_bundle(const fs::path& dir, const Json& manifest) {
    fs::create_directories(dir / "objects");
    for (const auto* object : {"object of 8", "object of 16"})
      write_text_file(dir / "objects" / (sha256_hex(std::string_view(object)) + ".so"), object);
    write_text_file(dir / "manifest.json", manifest.dump());
  }
  std::string open_error(const Json& manifest) {
    write_bundle(dir_, manifest);
    return error_of([&] { Bundle::open(dir_); });
  }

  // A program in the place of Python: it does what `script` says, with the output folder in $OUT.
  void stand_in_for_compiler(const std::string& script) {
    write_text_file(dir_ / "python",
                    "#!/bin/sh\nwhile [ $# -gt 1 ]; do\n"
                    "  case $1 in --out) OUT=$2;; --requests) REQUESTS=$2;; esac; shift\ndone\n" +
                        script);
    fs::permissions(dir_ / "python", fs::perms::owner_all);
    fs::create_directories(dir_ / "source" / "aot");
    write_text_file(dir_ / "source" / "aot" / "compile.py", "");
    write_text_file(dir_ / "nereid-ttir", "");
    fs::permissions(dir_ / "nereid-ttir", fs::perms::owner_all);
    ::setenv("NEREID_PYTHON", (dir_ / "python").c_str(), 1);
    ::setenv("NEREID_AOT_DIR", (dir_ / "source").c_str(), 1);
    ::setenv("NEREID_TTIR", (dir_ / "nereid-ttir").c_str(), 1);
  }

  fs::path dir_;
  const SpecTable specs_ = specs();
};

TEST_F(BundleTest, TakesTheBestLevelThatTheProcessorRuns) {
  Json manifest = manifest_json();
  manifest["variants"] = {variant_json(8, "object of 8"), variant_json(8, "object of 16")};
  manifest["variants"][1]["isa"] = "x86-64-v4";
  write_bundle(dir_, manifest);
  const std::map<std::string, std::string> expected{
      {"x86-64-v3", "object of 8"}, {"x86-64-v4", "object of 16"}, {"", "object of 16"}};
  for (const auto& [isa, object] : expected) {
    Bundle bundle = Bundle::open(dir_, isa);
    ASSERT_EQ(bundle.variants().size(), 1u) << isa;
    EXPECT_EQ(bundle.find(request(8).key())->object_sha256, sha256_hex(object)) << isa;
    EXPECT_EQ(target_text(bundle), "cpu (x86-64-v3, x86-64-v4)");
  }
  // One that runs neither is told so by what looks for bundles; opened, it shows the highest.
  EXPECT_EQ(Bundle::open(dir_, "aarch64").isa(), "x86-64-v4");
}

TEST_F(BundleTest, OpensAndVerifies) {
  Json manifest = manifest_json();
  manifest["variants"][1]["programmatic_launch"] = true;
  write_bundle(dir_, manifest);
  Bundle bundle = Bundle::open(dir_);
  EXPECT_EQ(bundle.target(), "cpu");
  EXPECT_EQ(bundle.isa(), "x86-64-v3");
  ASSERT_EQ(bundle.variants().size(), 2u);
  EXPECT_EQ(bundle.find(request(32).key()), nullptr);
  const Variant* variant = bundle.find(request(16).key());
  ASSERT_NE(variant, nullptr);
  EXPECT_EQ(variant->grid[0].evaluate(std::array<std::int64_t, 1>{33}), 3);
  EXPECT_EQ(variant->grid[1].constant_value(), 4);
  EXPECT_EQ(variant->registers, std::nullopt);
  EXPECT_EQ(variant->spills, 3);
  const auto image = bundle.image(*variant);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(image.object.data()), image.object.size()),
            "object of 16");
  EXPECT_EQ(image.isa, "x86-64-v3");
  EXPECT_EQ(image.arena_bytes, 4096u);
  EXPECT_TRUE(image.programmatic_launch);
  EXPECT_FALSE(bundle.image(*bundle.find(request(8).key())).programmatic_launch) << "absent";
  EXPECT_EQ(image.args,
            (std::vector<device::ArgType>{device::ArgType::pointer, device::ArgType::i32}));
}

TEST_F(BundleTest, OneChangedByteIsFound) {
  write_bundle(dir_, manifest_json());
  Bundle bundle = Bundle::open(dir_);
  const Variant& variant = *bundle.find(request(8).key());
  write_text_file(dir_ / variant.object, "object oF 8");
  EXPECT_THAT(
      error_of([&] { bundle.image(variant); }),
      AllOf(HasSubstr(variant.object), HasSubstr(sha256_hex(std::string_view("object of 8"))),
            HasSubstr(sha256_hex(std::string_view("object oF 8"))), HasSubstr("nereid compile")));
  EXPECT_NO_THROW(bundle.image(*bundle.find(request(16).key())));
  fs::remove(dir_ / variant.object);
  EXPECT_THAT(error_of([&] { bundle.image(variant); }), HasSubstr("cannot open"));
}

TEST_F(BundleTest, RefusesManifestsThatAreWrong) {
  const auto error_with = [&](const char* field, const Json& value) {
    Json manifest = manifest_json();
    manifest["variants"][1][field] = value;
    return open_error(manifest);
  };
  EXPECT_THAT(error_with("object", "../../etc/passwd"), HasSubstr("variant 1: object is"));
  EXPECT_THAT(error_with("object_sha256", "../x"), HasSubstr("64 hexadecimal"));
  EXPECT_THAT(error_with("symbol", "a b"), HasSubstr("no identifier"));
  EXPECT_THAT(error_with("arena_bytes", std::uint64_t{1} << 63), HasSubstr("\"arena_bytes\""));
  EXPECT_THAT(error_with("programmatic_launch", 1), HasSubstr("\"programmatic_launch\""));
  EXPECT_THAT(error_with("num_warps", 0), HasSubstr("expected an integer from 1 to 64, got 0"));
  EXPECT_THAT(error_with("n_threads", 1.5), HasSubstr("got 1.5"));
  EXPECT_THAT(error_with("args", args_json({{"out_ptr", "pointer"}, {"m", "i32"}})),
              HasSubstr("m is not in the variant's key"));
  EXPECT_THAT(error_with("args", args_json({{"n", "pointer"}})), HasSubstr("but its key says i32"));
  EXPECT_THAT(error_with("args", args_json({{"n", "i32"}, {"n", "i32"}})),
              HasSubstr("appears twice"));
  EXPECT_THAT(error_with("grid", Json::array({"n", "m", "1"})), HasSubstr("reads m"));
  EXPECT_THAT(error_with("grid", Json::array({"out_ptr", "1", "1"})),
              HasSubstr("no integer argument"));
  EXPECT_THAT(error_with("grid", Json::array({"n"})), HasSubstr("\"grid\" has the wrong type"));
  EXPECT_THAT(error_with("key", request(8).key()), HasSubstr("its key appears twice"));
  EXPECT_THAT(error_with("key", request(16).key() + " "), HasSubstr("not in canonical form"));
  EXPECT_THAT(error_with("key", "{"), HasSubstr("not valid JSON"));
  Json manifest = manifest_json();
  manifest["schema"] = 1;
  EXPECT_THAT(open_error(manifest), HasSubstr("expected schema 2, got 1"));
  manifest = manifest_json();
  manifest["variants"][1].erase("isa");
  EXPECT_THAT(open_error(manifest), HasSubstr("\"isa\" is missing"));
  manifest = manifest_json();
  manifest["variants"] = 3;
  EXPECT_THAT(open_error(manifest), HasSubstr("\"variants\" is missing or no list"));
}

TEST_F(BundleTest, ReadsTensorMaps) {
  const auto manifest_with = [&](const Json& args, const Json& maps) {
    Json manifest = manifest_json();
    manifest["variants"][1]["args"] = args;
    manifest["variants"][1]["tensor_maps"] = maps;
    return manifest;
  };
  const Json args = args_json({{"out_ptr", "tensor_map"},
                               {"out_ptr.shape0", "i32"},
                               {"out_ptr.stride0", "i64"},
                               {"n", "i32"}});
  const Json map = {{"element", "fp32"},
                    {"swizzle_bytes", 32},
                    {"box", {64}},
                    {"shape", {"n * BLOCK"}},
                    {"strides", {"1"}}};
  const auto broken = [&](const char* field, const Json& value) {
    Json wrong = map;
    wrong[field] = value;
    return open_error(manifest_with(args, {{"out_ptr", wrong}}));
  };
  write_bundle(dir_, manifest_with(args, {{"out_ptr", map}}));
  const Bundle bundle = Bundle::open(dir_);
  const auto& variant = *bundle.find(request(16).key());
  ASSERT_EQ(variant.tensor_maps.size(), 1u);
  const auto& read = variant.tensor_maps[0];
  EXPECT_EQ(read.arg, 0u);
  EXPECT_EQ(read.element, DType::fp32);
  EXPECT_EQ(read.swizzle_bytes, 32);
  EXPECT_EQ(read.box, std::vector<std::uint32_t>{64});
  EXPECT_EQ(read.shape[0].evaluate(std::array<std::int64_t, 1>{3}), 48);
  EXPECT_EQ(variant.args[1].name, "out_ptr.shape0");

  EXPECT_THAT(open_error(manifest_with(args, Json::object())),
              HasSubstr("nothing says what out_ptr maps"));
  EXPECT_THAT(open_error(manifest_with(args, {{"out_ptr", map}, {"in_ptr", map}})),
              HasSubstr("2 tensor maps for 1 arguments"));
  EXPECT_THAT(open_error(manifest_with(args, Json::array())), HasSubstr("is no object"));
  EXPECT_THAT(open_error(manifest_with(args_json({{"out_ptr", "tensor_map"}, {"n", "i32"}}),
                                       {{"out_ptr", map}})),
              HasSubstr("expected the argument out_ptr.shape0, got n i32"));
  EXPECT_THAT(
      open_error(manifest_with(args_json({{"out_ptr", "tensor_map"}, {"out_ptr.shape0", "i32"}}),
                               {{"out_ptr", map}})),
      HasSubstr("argument out_ptr.stride0 is missing"));
  EXPECT_THAT(open_error(manifest_with(args_json({{"out_ptr", "pointer"}, {"n", "tensor_map"}}),
                                       {{"n", map}})),
              HasSubstr("argument n is tensor_map"));
  EXPECT_THAT(broken("element", "fp12"), HasSubstr("unknown element type \"fp12\""));
  EXPECT_THAT(broken("box", Json::array()), HasSubstr("rank 0; expected 1 to 5"));
  EXPECT_THAT(broken("box", {64, 64}), HasSubstr("out_ptr.shape1"));
  EXPECT_THAT(broken("swizzle_bytes", 1 << 20), HasSubstr("expected an integer from 0 to 128"));
  EXPECT_THAT(broken("shape", {"m"}), HasSubstr("\"m\" reads m, which is no integer argument"));
  EXPECT_THAT(broken("strides", {"1", "1"}), HasSubstr("2 expressions of its strides, rank 1"));
}

TEST_F(BundleTest, DamagedManifestsAreErrorsAndNothingElse) {
  const std::string text = manifest_json().dump();
  write_bundle(dir_, manifest_json());
  std::mt19937 random(11);
  int n_errors = 0;
  for (int i = 0; i < 600; ++i) {
    std::string damaged = text;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const auto at = random() % damaged.size();
      switch (random() % 4) {
        case 0:
          damaged[at] = static_cast<char>(random());
          break;
        case 1:
          damaged.erase(at, 1 + random() % 40);
          break;
        case 2:
          damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 40));
          break;
        default:
          damaged.resize(at + 1);
      }
    }
    write_text_file(dir_ / "manifest.json", damaged);
    try {
      Bundle bundle = Bundle::open(dir_);
      for (const auto& variant : bundle.variants()) bundle.image(variant);
    } catch (const Error&) {
      ++n_errors;
    }
  }
  EXPECT_GT(n_errors, 300);
}

TEST_F(BundleTest, CompleteBundleBesideTheModelNeedsNoCompiler) {
  const std::vector<KernelRequest> requests{request(8), request(16)};
  stand_in_for_compiler("echo started >&2; exit 1\n");
  write_bundle(dir_ / "model" / "bundle" / "cpu", manifest_json());
  BundleOptions options;
  options.model_dir = dir_ / "model";
  EXPECT_EQ(find_bundle(specs_, "cpu", "x86-64-v4", requests, options).variants().size(), 2u);
  // The same, made for a processor that can do more: passed over, so that the compiler is asked.
  Json manifest = manifest_json();
  for (auto& variant : manifest["variants"]) variant["isa"] = "x86-64-v4";
  write_bundle(dir_ / "model" / "bundle" / "cpu", manifest);
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "x86-64-v3", requests, options); }),
              HasSubstr("started"));
  // Named by the user: then it must do.
  options.bundle_dir = dir_ / "model" / "bundle" / "cpu";
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "x86-64-v3", requests, options); }),
              AllOf(HasSubstr("compiled for x86-64-v4"), HasSubstr("this processor is x86-64-v3"),
                    HasSubstr("nereid compile MODEL --target cpu --out")));
}

TEST_F(BundleTest, StaleVariantsAreMissing) {
  Json manifest = manifest_json();
  manifest["variants"][0]["source_sha256"] = std::string(64, 'b');
  write_bundle(dir_, manifest);
  const std::vector<KernelRequest> requests{request(8), request(16), request(32)};
  EXPECT_EQ(missing_keys(Bundle::open(dir_), specs_, requests),
            (std::vector<std::string>{request(32).key(), request(8).key()}));
  BundleOptions options;
  options.bundle_dir = dir_;
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "", requests, options); }),
              HasSubstr("lacks 2 of 3 kernel variants"));
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cuda:90", "", requests, options); }),
              HasSubstr("made for target cpu, expected cuda:90"));
}

TEST_F(BundleTest, CompilesWhatIsMissingOnceAndFindsItAgain) {
  write_bundle(dir_ / "ready", manifest_json());
  write_text_file(dir_ / "asked", "");
  stand_in_for_compiler(
      fmt::format("cat $REQUESTS >> {0}/asked\n"
                  "echo '{{\"done\": 1, \"total\": 2, \"kernel\": \"mul\"}}'\n"
                  "echo \"$NEREID_TTIR\" > {0}/ttir\n"
                  "mkdir -p $OUT && cp -r {0}/ready/* $OUT\n",
                  dir_.string()));
  const std::vector<KernelRequest> requests{request(16), request(8), request(16)};
  for (int i = 0; i < 2; ++i) {
    Bundle bundle = find_bundle(specs_, "cpu", "x86-64-v3", requests, {});
    EXPECT_THAT(bundle.dir().string(), HasSubstr((dir_ / "cache" / "nereid" / "bundles").string()));
    EXPECT_NO_THROW(bundle.image(*bundle.find(request(8).key())));
  }
  EXPECT_EQ(read_text_file(dir_ / "asked"), request(16).key() + "\n" + request(8).key() + "\n");
  EXPECT_EQ(read_text_file(dir_ / "ttir"), (dir_ / "nereid-ttir").string() + "\n");
  // Nothing unfinished is left beside it.
  const fs::directory_iterator bundles(dir_ / "cache" / "nereid" / "bundles");
  EXPECT_EQ(std::distance(begin(bundles), end(bundles)), 1);
}

TEST_F(BundleTest, PlansOnceForABundleOfTheCache) {
  write_bundle(dir_ / "ready", manifest_json());
  stand_in_for_compiler(fmt::format("mkdir -p $OUT && cp -r {0}/ready/* $OUT\n", dir_.string()));
  int n_planned = 0;
  const PlanRequests plan = [&]() -> std::vector<KernelRequest> {
    ++n_planned;
    return {request(8), request(16)};
  };
  const auto find = [&](const std::string& plan_id, const BundleOptions& options = {}) {
    return find_planned_bundle(specs_, "cpu", "x86-64-v3", plan_id, plan, options).dir();
  };
  const auto made = find("a");
  EXPECT_EQ(n_planned, 1);
  EXPECT_EQ(find("a"), made);
  EXPECT_EQ(n_planned, 1);
  find("b");
  EXPECT_EQ(n_planned, 2);
  find("");
  EXPECT_EQ(n_planned, 3) << "nothing to remember it by";
  // What is remembered is of no use without the bundle, nor when it names no bundle.
  fs::remove_all(made);
  EXPECT_EQ(find("a"), made);
  EXPECT_EQ(n_planned, 4);
  for (const auto& entry : fs::directory_iterator(dir_ / "cache" / "nereid" / "plans"))
    write_text_file(entry.path(), "../../ready");
  EXPECT_EQ(find("a"), made);
  EXPECT_EQ(n_planned, 5);
  // A bundle that was brought here is compared with what is needed, each time.
  BundleOptions options;
  options.bundle_dir = dir_ / "ready";
  EXPECT_EQ(find("a", options), dir_ / "ready");
  EXPECT_EQ(n_planned, 6);
}

TEST_F(BundleTest, ObjectsOfABroughtBundleAreCheckedAtOnce) {
  write_bundle(dir_ / "brought", manifest_json());
  BundleOptions options;
  options.bundle_dir = dir_ / "brought";
  const std::vector<KernelRequest> requests{request(8)};
  EXPECT_NO_THROW(find_bundle(specs_, "cpu", "x86-64-v3", requests, options));
  for (const auto& entry : fs::directory_iterator(dir_ / "brought" / "objects"))
    write_text_file(entry.path(), "something else");
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "x86-64-v3", requests, options); }),
              HasSubstr("is damaged"));
}

TEST_F(BundleTest, SaysWhatTheCompilerSaid) {
  const std::vector<KernelRequest> requests{request(8)};
  stand_in_for_compiler("echo 'mul: line 3: no such op' >&2; exit 1\n");
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "x86-64-v3", requests, {}); }),
              AllOf(HasSubstr("failed for target cpu"), HasSubstr("mul: line 3: no such op")));
  stand_in_for_compiler("kill -9 $$\n");
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cpu", "x86-64-v3", requests, {}); }),
              HasSubstr("signal 9"));
  EXPECT_FALSE(fs::exists(dir_ / "cache" / "nereid" / "bundles") &&
               !fs::is_empty(dir_ / "cache" / "nereid" / "bundles"));
}

TEST_F(BundleTest, WithoutCompilerNamesTheCommand) {
  const std::vector<KernelRequest> requests{request(8)};
  BundleOptions options;
  options.command = "nereid compile demo";
  options.model_dir = dir_ / "model";
  ::setenv("NEREID_AOT_DIR", dir_.c_str(), 1);
  ::setenv("NEREID_PYTHON", "/bin/true", 1);
  EXPECT_THAT(
      error_of([&] { find_bundle(specs_, "cuda:90", "", requests, options); }),
      AllOf(HasSubstr("1 kernel variants"), HasSubstr("mul"), HasSubstr("no aot/compile.py"),
            HasSubstr("nereid compile demo --target cuda:90 --out DIR"),
            HasSubstr((dir_ / "model" / "bundle" / "cuda-90").string())));
  ::setenv("NEREID_PYTHON", "/nowhere/python3", 1);
  EXPECT_THAT(error_of([&] { find_bundle(specs_, "cuda:90", "", requests, options); }),
              HasSubstr("NEREID_PYTHON is /nowhere/python3, which is no program"));
}

}  // namespace
}  // namespace nereid::kernel
