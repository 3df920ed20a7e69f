// `loupe up` with a coordinator and two workers whose trials are play-acted, for a suite of tests on the whole command.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/cli/process.h"

namespace loupe::cli {

inline constexpr char kSweep[] = R"(
base: b
scorer: s
task: {images: i, instance_prompt: a photo of sks, class_prompt: a photo of cat face}
method: {width: 8}
factors: {input: [SA_in, CA_in], output: [FFN_in, Trans_out], activation: [relu, silu]}
replicates: 2
budget: {steps: 5}
)";

// One `loupe up` for all tests of the suite. `loupe` finds its programs beside itself, so a folder is laid out with a
// copy of it, the coordinator, and a stand-in for the worker's command line.
class UpTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TemporaryFolder>();
    std::filesystem::copy_file(LOUPE_BINARY, folder_->path() + "/loupe");
    std::filesystem::create_symlink(LOUPE_COORDINATOR, folder_->path() + "/loupe-coordinator");
    const std::string worker =
        folder_->Write("loupe-worker",
                       std::string("#!/bin/bash\nshift\n"
                                   "while [ $# -gt 0 ]; do case $1 in --credentials) c=$2;;"
                                   " --data) d=$2;; --id) n=$2;; esac; shift 2; done\n"
                                   "exec " LOUPE_FAKE_WORKER
                                   " --credentials $c --data $d/$n --name $n --seconds 0.05 --half-precisions bf16\n"));
    std::filesystem::permissions(worker, std::filesystem::perms::owner_all);
    const ProcessResult up = RunProcess(
        folder_->path() + "/loupe", {"up", "--detach", "--data", Data(), "--listen", "127.0.0.1:0", "--workers", "2"});
    ASSERT_EQ(up.exit_code, 0) << up.err;
    EXPECT_THAT(up.out, ::testing::HasSubstr("2 workers"));
  }

  static void TearDownTestSuite() {
    EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"down", "--data", Data()}).exit_code, 0);
    // Nothing is left running, and nobody is told of an address that nobody listens on.
    EXPECT_FALSE(std::filesystem::exists(Data() + "/address"));
    EXPECT_EQ(RunProcess(folder_->path() + "/loupe", {"down", "--data", Data()}).exit_code, 1);
    folder_.reset();
  }

  static std::string Data() { return folder_->path() + "/data"; }

  static ProcessResult Loupe(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--data", Data()});
    return RunProcess(folder_->path() + "/loupe", arguments, folder_->path());
  }

  static nlohmann::json LoupeJson(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--format", "json"});
    const ProcessResult result = Loupe(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out, nullptr, false);
  }

  static std::string SweepFile(const std::string& name, const std::string& text = kSweep) {
    return folder_->Write(name + ".yaml", "name: " + name + "\n" + text);
  }

  inline static std::unique_ptr<TemporaryFolder> folder_;
};

}  // namespace loupe::cli
