// Entries shared by several workers: made once, made anew when damaged, never half there.
#include "worker/tasks/tensor_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/atomic_file.h"
#include "spdlog/spdlog.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

namespace fs = std::filesystem;

class TensorCacheTest : public ::testing::Test {
 protected:
  TensorCacheTest()
      : root_(::testing::TempDir() + "tensor_cache_test_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(root_);
  }
  ~TensorCacheTest() override { fs::remove_all(root_); }

  // 2, 3, 5 and the number of times that it was made.
  std::function<train::TensorMap()> Make() {
    return [this]() -> train::TensorMap { return {{"a", torch::tensor({2, 3, 5, ++made_})}}; };
  }
  static int LastOf(const train::TensorMap& entry) { return entry.at("a")[3].item<int>(); }
  std::vector<fs::path> Entries() const {
    std::vector<fs::path> paths;
    for (const auto& file : fs::recursive_directory_iterator(root_)) {
      if (file.is_regular_file() && file.path().extension() != ".lock") paths.push_back(file.path());
    }
    return paths;
  }

  const std::string root_;
  std::atomic<int> made_ = 0;
};

TEST_F(TensorCacheTest, AnEntryIsMadeOnceAndKeptByItsKey) {
  const tasks::TensorCache cache(root_);
  EXPECT_EQ(LastOf(cache.GetOrMake("numbers", "one", Make())), 1);
  EXPECT_EQ(LastOf(tasks::TensorCache(root_).GetOrMake("numbers", "one", Make())), 1) << "another process finds it";
  EXPECT_EQ(LastOf(cache.GetOrMake("numbers", "two", Make())), 2) << "another key";
  EXPECT_EQ(Entries().size(), 2u);
}

// Strides decide which kernels run and how they round.
TEST_F(TensorCacheTest, AColdCacheGivesTheLayoutOfAWarmOne) {
  const tasks::TensorCache cache(root_);
  const auto make = []() -> train::TensorMap {
    return {{"a", torch::randn({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast)}};
  };
  const auto cold = cache.GetOrMake("k", "x", make).at("a"), warm = cache.GetOrMake("k", "x", make).at("a");
  EXPECT_TRUE(torch::equal(cold, warm));
  EXPECT_EQ(cold.strides(), warm.strides());
}

TEST_F(TensorCacheTest, OfTwoWorkersAtOnceOneMakesAndTheOtherWaits) {
  const tasks::TensorCache cache(root_);
  std::atomic<bool> is_making = false, has_waited = false;
  std::thread first([&] {
    cache.GetOrMake("numbers", "one", [&] {
      is_making = true;
      while (!has_waited) std::this_thread::yield();
      return Make()();
    });
  });
  while (!is_making) std::this_thread::yield();
  const auto entry = tasks::TensorCache(root_).GetOrMake("numbers", "one", Make(), [&] { has_waited = true; });
  first.join();
  EXPECT_EQ(LastOf(entry), 1);
  EXPECT_EQ(made_, 1);
}

TEST_F(TensorCacheTest, AWorkerThatIsKilledWhileMakingLeavesNoEntryAndNoLock) {
  const tasks::TensorCache cache(root_);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    cache.GetOrMake("numbers", "one", []() -> train::TensorMap {
      ::kill(::getpid(), SIGKILL);
      return {};
    });
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_THAT(Entries(), ::testing::IsEmpty());
  int waited = 0;
  EXPECT_EQ(LastOf(cache.GetOrMake("numbers", "one", Make(), [&] { ++waited; })), 1);
  EXPECT_EQ(waited, 0);
}

TEST_F(TensorCacheTest, WhatAKilledWriterLeftIsRemovedWithTheNextEntry) {
  const tasks::TensorCache cache(root_);
  cache.GetOrMake("numbers", "one", Make());
  const fs::path path = Entries().at(0);
  fs::rename(path, path.string() + ".0123456789ab.tmp");
  std::ofstream(path.parent_path() / "other.safetensors.0123456789ab.tmp") << "another entry's writer may be alive";
  cache.GetOrMake("numbers", "one", Make());
  EXPECT_THAT(Entries(),
              ::testing::UnorderedElementsAre(path, path.parent_path() / "other.safetensors.0123456789ab.tmp"));
}

TEST_F(TensorCacheTest, EveryTruncationAndEveryFlippedByteIsMadeAnew) {
  const tasks::TensorCache cache(root_);
  cache.GetOrMake("numbers", "one", Make());
  const fs::path path = Entries().at(0);
  const std::string whole = *ReadFile(path.string());
  const auto expect_made_anew = [&](const std::string& damaged, size_t at) {
    std::ofstream(path, std::ios::binary) << damaged;
    const int before = made_;
    const auto entry = cache.GetOrMake("numbers", "one", Make());
    EXPECT_EQ(made_, before + 1) << at;
    EXPECT_TRUE(torch::equal(entry.at("a"), torch::tensor({2, 3, 5, before + 1}))) << at;
  };
  spdlog::set_level(spdlog::level::off);  // a warning each
  for (size_t size = 0; size < whole.size(); size += 7) expect_made_anew(whole.substr(0, size), size);
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ 1);
    expect_made_anew(flipped, i);
  }
  spdlog::set_level(spdlog::level::info);
}

// A limit on the size of files stands in for a full disk.
TEST_F(TensorCacheTest, OnAFullDiskWhatWasMadeIsUsedAndNothingIsLeft) {
  const tasks::TensorCache cache(root_);
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{64, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto entry = cache.GetOrMake("numbers", "one", Make());
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  EXPECT_EQ(LastOf(entry), 1);
  EXPECT_THAT(Entries(), ::testing::IsEmpty());
  EXPECT_EQ(LastOf(cache.GetOrMake("numbers", "one", Make())), 2) << "once there is room, it is kept";
  EXPECT_EQ(Entries().size(), 1u);
}

TEST_F(TensorCacheTest, WhatMakeThrowsLeavesNoEntry) {
  const tasks::TensorCache cache(root_);
  EXPECT_THROW(cache.GetOrMake("numbers", "one", []() -> train::TensorMap { throw runtime::Stopped(); }),
               runtime::Stopped);
  EXPECT_THAT(Entries(), ::testing::IsEmpty());
  EXPECT_EQ(LastOf(cache.GetOrMake("numbers", "one", Make())), 1);
}

TEST_F(TensorCacheTest, AFolderThatCannotBeMadeIsNamed) {
  std::ofstream(root_) << "a file, no folder";
  try {
    tasks::TensorCache(root_).GetOrMake("numbers", "one", Make());
    FAIL() << "expected a UserError";
  } catch (const runtime::UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr(root_ + "/numbers"));
  }
}

}  // namespace
}  // namespace loupe::worker::executor
