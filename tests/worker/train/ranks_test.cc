// One trial on several ranks against the same trial on one: threads stand for the processes, each with a base, a method
// and a trainer of its own, and talk to each other through Gloo as processes do.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <torch/utils.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <functional>
#include <thread>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "tests/worker/train/small_base.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tuning_sites.h"
#include "worker/ranks/gradient_sum.h"
#include "worker/ranks/rank_group.h"
#include "worker/ranks/step_channel.h"
#include "worker/ranks/step_hub.h"
#include "worker/train/trainer.h"

namespace loupe::worker::train {
namespace {

std::string NewFolder() {
  std::string pattern = ::testing::TempDir() + "ranks_test-XXXXXX";
  return mkdtemp(pattern.data());
}

// The same work on every rank; rethrows what the first of them threw.
void OnRanks(int ranks, const std::string& folder, const std::function<void(ranks::RankGroup&)>& work) {
  static int meetings = 0;
  const std::string meeting = folder + "/meeting-" + std::to_string(++meetings);
  std::vector<std::exception_ptr> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        ranks::RankGroup group({.meeting_file = meeting, .rank = rank, .ranks = ranks});
        work(group);
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

struct RankedTrial {
  std::map<std::string, std::string> cell;
  TrainOptions options;
  int64_t batch = 4;
};

struct RankedRun {
  std::vector<SlotStep> steps;
  std::map<std::string, torch::Tensor> values;
  std::string checkpoint;
};

class RanksTest : public ::testing::Test {
 protected:
  static constexpr int64_t kSteps = 4;

  RanksTest() : data_(MakeSmallData(/*prior=*/true)) { at::set_num_threads(1); }
  ~RanksTest() override { std::filesystem::remove_all(folder_); }

  // `steps` steps, from `checkpoint` where one is given.
  RankedRun Run(const RankedTrial& trial, ranks::RankGroup* ranks, int64_t steps = kSteps,
                const std::string& checkpoint = "") {
    base::BaseModel base = MakeSmallBase();
    const methods::SlotOptions method{methods::MethodSettings(trial.cell), 7};
    Trainer trainer(
        base,
        [&](const std::vector<size_t>&) { return methods::MakeMethod(nn::SitesIn(*base.unet), {method}, torch::kCPU); },
        std::vector<TrainSlot>());
    TrainSlot slot{tasks::MakeDreamBoothSource(data_, trial.batch, {1, 2, 3}), runtime::RandomStream(4),
                   runtime::RandomStream(5), trial.options};
    slot.ranks = ranks;
    trainer.Join(std::move(slot));
    const std::string path = folder_ + ("/checkpoint-" + std::to_string(ranks == nullptr ? 0 : ranks->rank()));
    if (!checkpoint.empty()) {
      EXPECT_TRUE(WriteFileAtomically(path, checkpoint).ok());
      EXPECT_TRUE(trainer.LoadCheckpoint(path, "run"));
    }
    RankedRun run;
    for (int64_t i = 0; i < steps; ++i) run.steps.push_back(trainer.StepOf(0));
    trainer.SaveCheckpoint(path, "run");
    run.checkpoint = *ReadFile(path);
    trainer.WithSlotAlone(0, [&](methods::Method& trained) { run.values = trained.Export(0); });
    return run;
  }

  std::vector<RankedRun> RunOn(int ranks, const RankedTrial& trial, int64_t steps = kSteps,
                               const std::string& checkpoint = "") {
    std::vector<RankedRun> runs(static_cast<size_t>(ranks));
    OnRanks(ranks, folder_, [&](ranks::RankGroup& group) {
      runs[static_cast<size_t>(group.rank())] = Run(trial, &group, steps, checkpoint);
    });
    return runs;
  }

  // Rows are added up in another order, in float32: the bound for losses; of values, after AdamW, which divides
  // small gradients by themselves, what is measured is below 2e-6 of the largest.
  static void ExpectTheSame(const RankedRun& ranked, const RankedRun& alone) {
    ASSERT_EQ(ranked.steps.size(), alone.steps.size());
    for (size_t i = 0; i < alone.steps.size(); ++i) {
      EXPECT_EQ(ranked.steps[i].kind, alone.steps[i].kind);
      EXPECT_NEAR(ranked.steps[i].loss, alone.steps[i].loss, 1e-6 * std::abs(alone.steps[i].loss)) << "step " << i;
      EXPECT_NEAR(ranked.steps[i].running_error, alone.steps[i].running_error, 1e-6) << "step " << i;
    }
    double largest = 0, furthest = 0;
    for (const auto& [name, value] : alone.values) {
      largest = std::max(largest, value.abs().max().item<double>());
      furthest = std::max(furthest, (ranked.values.at(name) - value).abs().max().item<double>());
    }
    RecordProperty("furthest", std::to_string(furthest / largest));
    EXPECT_LE(furthest, 1e-5 * largest);
  }

  const std::string folder_ = NewFolder();
  const std::shared_ptr<const tasks::DreamBoothData> data_;
};

RankedTrial Adapter() {
  return {{{"method.input", "CA_out"}, {"method.output", "FFN_in"}, {"method.width", "4"}},
          {.optimizer = {.learning_rate = 1e-3, .clip_norm = 0.5},
           .min_snr_gamma = 5,
           .noise_offset = 0.1,
           .ema_decay = 0.9}};
}

TEST_F(RanksTest, TwoRanksTakeTheStepsOfOne) {
  const RankedTrial trial = Adapter();
  const std::vector<RankedRun> ranked = RunOn(2, trial);
  ExpectTheSame(ranked[0], Run(trial, nullptr));
  EXPECT_EQ(ranked[0].checkpoint, ranked[1].checkpoint) << "all ranks have the same values, bit for bit";
}

// 2 × 3 rows, four ranks: shares of two and of one row.
TEST_F(RanksTest, UnevenSharesAreTheSameTrial) {
  RankedTrial trial = Adapter();
  trial.batch = 3;
  trial.options.accumulation = 2;
  ExpectTheSame(RunOn(4, trial)[0], Run(trial, nullptr));
}

// Masks are drawn for the whole batch.
TEST_F(RanksTest, DropoutIsThatOfTheWholeBatch) {
  const RankedTrial trial{{{"method.kind", "lora"}, {"method.rank", "2"}, {"method.dropout", "0.3"}},
                          {.optimizer = {.learning_rate = 1e-3}}};
  ExpectTheSame(RunOn(2, trial)[0], Run(trial, nullptr));
}

TEST_F(RanksTest, CheckpointsGoOnWithOtherRanks) {
  const RankedTrial trial = Adapter();
  const RankedRun whole = Run(trial, nullptr);
  const std::string half = RunOn(2, trial, kSteps / 2)[0].checkpoint;
  RankedRun rest = RunOn(3, trial, kSteps / 2, half)[0];
  for (int64_t i = 0; i < kSteps / 2; ++i) {
    EXPECT_NEAR(rest.steps[static_cast<size_t>(i)].loss, whole.steps[static_cast<size_t>(kSteps / 2 + i)].loss, 1e-6);
  }
  RankedRun alone = Run(trial, nullptr, kSteps / 2, half);
  ExpectTheSame(rest, alone);
}

// A method that trains all weights goes by buckets, while the backward pass runs.
TEST_F(RanksTest, FullFineTuningIsTheSameTrial) {
  const RankedTrial trial{{{"method.kind", "full"}}, {.optimizer = {.learning_rate = 1e-5}}};
  const std::vector<RankedRun> ranked = RunOn(2, trial);
  ExpectTheSame(ranked[0], Run(trial, nullptr));
  EXPECT_EQ(ranked[0].checkpoint, ranked[1].checkpoint);
}

// Both ways of adding up, on plain tensors: each sum is exact, and what no rank touches stays untouched.
TEST_F(RanksTest, GradientsAreAddedUpBothWays) {
  for (const int64_t flat_bytes : {int64_t{1} << 30, int64_t{0}}) {
    std::vector<std::vector<torch::Tensor>> gradients(3);
    OnRanks(3, folder_, [&](ranks::RankGroup& group) {
      std::vector<torch::Tensor> parameters;
      for (int64_t i = 0; i < 9; ++i) parameters.push_back(torch::full({5, i + 1}, 2.0).set_requires_grad(true));
      const auto unused = torch::zeros({3}).set_requires_grad(true);
      parameters.push_back(unused);
      const auto sum = ranks::MakeGradientSum(group, parameters, {.flat_bytes = flat_bytes, .bucket_bytes = 64});
      for (int step = 0; step < 2; ++step) {
        for (torch::Tensor& parameter : parameters) parameter.mutable_grad().reset();
        torch::Tensor loss = torch::zeros({});
        for (int64_t i = 0; i < 9; ++i)
          loss = loss + (parameters[static_cast<size_t>(i)] * static_cast<double>((group.rank() + 1) * (i + 1))).sum();
        sum->Begin(loss);
        loss.backward();
        sum->Finish();
        EXPECT_FALSE(unused.grad().defined());
      }
      for (int64_t i = 0; i < 9; ++i)
        gradients[static_cast<size_t>(group.rank())].push_back(parameters[static_cast<size_t>(i)].grad().clone());
    });
    for (const auto& of_rank : gradients) {
      for (int64_t i = 0; i < 9; ++i) {
        EXPECT_TRUE(
            torch::equal(of_rank[static_cast<size_t>(i)], torch::full({5, i + 1}, 6.0 * static_cast<double>(i + 1))));
      }
    }
  }
}

TEST_F(RanksTest, RowsAndBytesFindTheirWay) {
  OnRanks(3, folder_, [](ranks::RankGroup& group) {
    EXPECT_EQ(group.FromLeader(group.rank() == 0 ? "a word" : "mine"), "a word");
    EXPECT_EQ(group.FromLeader(""), "");
    const std::vector<int64_t> rows = {2, 0, 1};
    const auto own = torch::full({rows[static_cast<size_t>(group.rank())], 2}, group.rank(), torch::kUInt8);
    const torch::Tensor all = group.GatherRows(own, rows);
    if (group.rank() != 0) return;
    EXPECT_TRUE(torch::equal(all, torch::tensor({0, 0, 0, 0, 2, 2}, torch::kUInt8).view({3, 2})));
  });
}

// Rank 1 leaves in the middle: rank 0 hears of it at once, and not after the patience.
TEST_F(RanksTest, ARankThatGoesIsNoticed) {
  EXPECT_ANY_THROW(OnRanks(2, folder_, [](ranks::RankGroup& group) {
    if (group.rank() == 1) return;
    group.SumOnCpu(torch::ones({4}));
  }));
}

// What Gloo writes to a rank that has gone a moment ago would otherwise end the process.
TEST_F(RanksTest, ABrokenPipeIsAnErrorAndNoSignal) {
  signal(SIGPIPE, SIG_DFL);
  OnRanks(2, folder_, [](ranks::RankGroup& group) { group.SumOnCpu(torch::ones({4})); });
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  EXPECT_EQ(write(ends[1], "x", 1), -1);
  EXPECT_EQ(errno, EPIPE);
  close(ends[1]);
}

// Which of this process's connections have a limit to their other end's silence, in milliseconds, by their own address.
std::vector<int> LimitsOfConnections(const std::string& interface) {
  std::vector<int> found;
  for (int fd = 0; fd < 1024; ++fd) {
    sockaddr_in own{}, other{};
    socklen_t own_size = sizeof own, other_size = sizeof other, limit_size = sizeof(int);
    int limit = -1;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 && own.sin_family == AF_INET &&
        getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_size) == 0 &&
        own.sin_addr.s_addr == inet_addr(interface.c_str()) &&
        getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, &limit_size) == 0) {
      found.push_back(limit);
    }
  }
  return found;
}

// A machine without power closes no connection.
TEST_F(RanksTest, ASilentMachineIsNotWaitedForLong) {
  OnRanks(2, folder_, [](ranks::RankGroup& group) {
    group.SumOnCpu(torch::ones({4}));
    const std::vector<int> limits = LimitsOfConnections("127.0.0.1");
    EXPECT_GE(limits.size(), 2u);
    EXPECT_THAT(limits, ::testing::Each(90000));
    group.SumOnCpu(torch::ones({4}));
  });
}

// In the same process, which no call of theirs depends on: ranks 1 and 2 come through the step's file.
TEST_F(RanksTest, TasksOfAJobStepMeet) {
  const std::string file = folder_ + "/step";
  ranks::StepHub hub({.file = file, .tasks = 3});
  hub.Start("an earlier job", 3);
  std::vector<ranks::RankGroup::Options> places = {hub.Start("job", 3)};
  for (int rank = 1; rank < 3; ++rank) places.push_back(ranks::JoinStep(file, rank, 2));
  std::vector<double> sums(3);
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      ranks::RankGroup::Options place = places[static_cast<size_t>(rank)];
      place.ranks = 3;
      if (rank > 0) ranks::SayReady(place);
      ranks::RankGroup group(place);
      const torch::Tensor sum = torch::tensor(rank + 1.0, torch::kFloat64);
      group.SumOnCpu(sum);
      sums[static_cast<size_t>(rank)] = sum.item<double>();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(sums, std::vector<double>(3, 6.0));
  EXPECT_TRUE(ranks::AllReady(places[0]));
}

TEST_F(RanksTest, ATaskThatIsGoneIsGoneForGood) {
  const std::string file = folder_ + "/step";
  ranks::StepHub hub({.file = file, .tasks = 2});
  std::unique_ptr<ranks::StepChannel> host = ranks::StepChannel::Connect(ranks::StepFile::Read(file), {.rank = 1});
  hub.Start("job", 2);
  EXPECT_EQ(host->Receive(), "start 1\njob");
  EXPECT_EQ(hub.WhyUnable(), "");
  host.reset();
  while (hub.WhyUnable().empty()) std::this_thread::yield();
  hub.Start("another job", 2);
  EXPECT_EQ(hub.WhyUnable(), "rank 1: its task of the job step is gone");
  EXPECT_EQ(hub.WhyEnded(), hub.WhyUnable());
}

TEST_F(RanksTest, OnlyTasksOfTheStepAreHeard) {
  const std::string file = folder_ + "/step";
  ranks::StepHub hub({.file = file, .tasks = 2});
  hub.Start("job", 2);
  EXPECT_NO_THROW(ranks::SayReady(ranks::JoinStep(file, 1, 1)));
  EXPECT_ANY_THROW(ranks::SayReady(ranks::JoinStep(file, 1, 7))) << "of another job";
  EXPECT_ANY_THROW(ranks::SayReady(ranks::JoinStep(file, 2, 1))) << "there is no such rank";
  ranks::StepFile guessed = ranks::StepFile::Read(file);
  guessed.secret = std::string(guessed.secret.size(), '0');
  ASSERT_TRUE(WriteFileAtomically(file + "-guessed", guessed.Encode(), 0600).ok());
  EXPECT_ANY_THROW(ranks::JoinStep(file + "-guessed", 1, 1)) << "who does not know the secret";
  ASSERT_EQ(chmod(file.c_str(), 0640), 0);
  EXPECT_ANY_THROW(ranks::JoinStep(file, 1, 1)) << "others may have read it";
}

TEST(RowShareTest, SharesCoverAllRowsInOrder) {
  for (int64_t total = 0; total < 20; ++total) {
    for (int64_t ranks = 1; ranks < 7; ++ranks) {
      int64_t next = 0;
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const runtime::RowShare share = runtime::ShareOf(total, rank, ranks);
        EXPECT_EQ(share.first, next);
        EXPECT_GE(share.count, total / ranks);
        EXPECT_LE(share.count, (total + ranks - 1) / ranks);
        next += share.count;
      }
      EXPECT_EQ(next, total);
    }
  }
}

}  // namespace
}  // namespace loupe::worker::train
