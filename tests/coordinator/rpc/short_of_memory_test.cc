// Exceptions where no call's body is: whatever is cut off, somebody is told, the rest goes on, and the process lives.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <new>
#include <stdexcept>

#include "common/random_source.h"
#include "coordinator/engine/engine_thread.h"
#include "coordinator/rpc/chunk_writer.h"
#include "coordinator/rpc/unary_reactor.h"
#include "coordinator/rpc/upload_reactor.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "tests/testing/failing_memory.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::rpc {
namespace {

using testing::FailAllocation;
using testing::HasFailedAllocation;
using ::testing::HasSubstr;

scheduler::SweepRecord SweepOf(const std::string& id, int64_t cells) {
  scheduler::SweepRecord sweep;
  sweep.id = id;
  sweep.uid = "uid-" + id;
  sweep.cells = cells;
  sweep.replicates = 1;
  return sweep;
}

absl::StatusOr<scheduler::SweepRecord> Create(const scheduler::SweepRecord& sweep, scheduler::Scheduler& scheduler,
                                              const scheduler::Now& now, scheduler::Effects& effects) {
  return scheduler.OnCreate(
      sweep, [](int64_t) { return "{}"; }, "", "", now, effects);
}

class ShortOfMemoryTest : public ::testing::Test {
 protected:
  ShortOfMemoryTest() { EXPECT_TRUE(engine_.Recover().ok()); }

  // On a real disk: an exception in a VFS of ours would go through SQLite, which is C.
  const testing::TempFolder folder_;
  const std::unique_ptr<store::SqliteStore> store_ = *store::SqliteStore::Open({.path = folder_ / "db"});
  engine::Engine engine_{scheduler::SchedulerOptions(), {store_.get(), &SystemClock(), &SystemRandom(), nullptr}};
};

// A worker that hands in a result and takes the next trial, while the n-th allocation of that turn fails, for every n.
TEST_F(ShortOfMemoryTest, EveryAllocationOfATurn) {
  constexpr int64_t kCells = 2000;
  engine_.Process({engine::Job(
      [](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects& effects) -> engine::Reply {
        EXPECT_TRUE(Create(SweepOf("s", kCells), scheduler, now, effects).ok());
        return [](const absl::Status& durable) { EXPECT_TRUE(durable.ok()); };
      })});
  while (engine_.scheduler().HasWork()) engine_.Process({});
  int refused = 0;
  int64_t accepted = 0;
  std::optional<scheduler::DesiredAttempt> held;
  int64_t n = 1;
  for (bool failed = true; failed; ++n) {
    engine::SyncCall call;
    call.request.worker = "w";
    call.request.session = "s";
    if (held) {
      scheduler::AttemptReport& report = call.request.attempts.emplace_back();
      report.lease = {held->sweep_id, held->trial.index, held->epoch, ToHex(held->token)};
      report.outcome = scheduler::Result{{{"score", 1.0}}};
    }
    int answers = 0;
    absl::StatusOr<scheduler::SyncAnswer> answer = absl::UnknownError("");
    call.reply = [&](absl::StatusOr<scheduler::SyncAnswer> given) {
      ++answers;
      answer = std::move(given);
    };
    const std::vector<engine::EngineInput> batch = {std::move(call)};
    FailAllocation(n);
    engine_.Process(batch);
    failed = HasFailedAllocation();
    FailAllocation(0);
    // Only the reply itself, cut off after the commit, may never arrive: the worker asks again, as after a lost answer.
    ASSERT_LE(answers, 1) << n;
    if (!answer.ok()) {
      ++refused;
      continue;
    }
    for (const scheduler::Verdict& verdict : answer->verdicts) {
      EXPECT_TRUE(verdict.status.ok()) << n << ": " << verdict.status;
      ++accepted;
    }
    ASSERT_EQ(answer->desired.size(), 1U) << n;
    held = answer->desired[0];
  }
  EXPECT_GT(n, 30);
  EXPECT_GT(accepted, n / 2);
  const auto view = engine_.scheduler().View("s", {absl::ZeroDuration(), absl::UnixEpoch()});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->counts.succeeded, accepted);
  EXPECT_EQ(view->counts, *store_->CountTrials(view->record->key));
  fmt::print("{} allocations; {} turns without an answer\n", n, refused);
}

TEST_F(ShortOfMemoryTest, ADecisionCutOffLeavesNoTrace) {
  engine::EngineThread thread(engine_, SystemClock());
  const auto cut_off = [&](const auto& error) {
    return thread
        .Call<scheduler::SweepRecord>([&](scheduler::Scheduler& scheduler, const scheduler::Now& now,
                                          scheduler::Effects& effects) -> absl::StatusOr<scheduler::SweepRecord> {
          EXPECT_TRUE(Create(SweepOf("half", 3), scheduler, now, effects).ok());
          throw error;
        })
        .status();
  };
  const absl::Status short_of_memory = cut_off(std::bad_alloc());
  EXPECT_TRUE(absl::IsResourceExhausted(short_of_memory)) << short_of_memory;
  const absl::Status failed = cut_off(std::runtime_error("a reason"));
  EXPECT_TRUE(absl::IsInternal(failed)) << failed;
  EXPECT_THAT(std::string(failed.message()), HasSubstr("a reason"));
  EXPECT_TRUE(absl::IsNotFound(store_->GetSweep("half").status()));
  const auto whole = thread.Call<scheduler::SweepRecord>(
      [](scheduler::Scheduler& scheduler, const scheduler::Now& now, scheduler::Effects& effects) {
        return Create(SweepOf("half", 3), scheduler, now, effects);
      });
  EXPECT_TRUE(whole.ok()) << whole.status();
}

// The reactors behind a real server, on one pool thread.
class ReactorTest : public ShortOfMemoryTest {
 protected:
  class Trials final : public v1::TrialService::CallbackService {
   public:
    explicit Trials(const api::Backend& backend) : backend_(backend) {}
    grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* DownloadArtifact(
        grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) override {
      auto* writer = new ChunkWriter<v1::DownloadArtifactResponse>(backend_);
      writer->SetOpen(*OpenFor(backend_, *context, access::Role::kViewer, access::CallKind::kStream, request));
      writer->Start([chunks = 0](v1::DownloadArtifactResponse& response) mutable -> absl::StatusOr<bool> {
        if (++chunks == 2) throw std::bad_alloc();
        response.set_chunk("a chunk");
        return true;
      });
      return writer;
    }

   private:
    const api::Backend& backend_;
  };
  class Workers final : public v1::WorkerService::CallbackService {
   public:
    explicit Workers(const api::Backend& backend) : backend_(backend) {}
    grpc::ServerReadReactor<v1::UploadArtifactRequest>* UploadArtifact(grpc::CallbackServerContext* context,
                                                                       v1::UploadArtifactResponse* response) override {
      return UploadReactor::Begin(backend_, *context, *response);
    }
    grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* request,
                                          v1::ListWorkersResponse* response) override {
      auto* call = new UnaryReactor(*context, response);
      call->SetOpen(*OpenFor(backend_, *context, access::Role::kViewer, access::CallKind::kUnary, request));
      api::RunLater(backend_, call, [] { throw std::bad_alloc(); });
      return call;
    }
    grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* context, const v1::WorkerVerbRequest*,
                                          v1::Worker* response) override {
      auto* call = new UnaryReactor(*context, response);
      api::RunNow(call, [] { throw std::runtime_error("a reason"); });
      return call;
    }

   private:
    const api::Backend& backend_;
  };

  ReactorTest() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&trials_);
    builder.RegisterService(&workers_);
    server_ = builder.BuildAndStart();
    channel_ = grpc::CreateChannel(fmt::format("127.0.0.1:{}", port), grpc::InsecureChannelCredentials());
  }
  ~ReactorTest() override { server_->Shutdown(); }

  // On the pool's one thread, before anything else that is submitted later.
  void FailOnPool(int64_t n) {
    // Owned by both: this function may be gone when the job's last line runs.
    const auto armed = std::make_shared<std::promise<void>>();
    pool_.Submit("test", [armed, n] {
      armed->set_value();
      FailAllocation(n);
    });
    armed->get_future().wait();
  }

  engine::EngineThread thread_{engine_, SystemClock()};
  access::OpenCalls calls_{access::ClientLimits().open, SystemClock()};
  api::WorkPool pool_{1, 16};
  const std::unique_ptr<store::ArtifactFolder> artifacts_ = *store::ArtifactFolder::Open(folder_ / "artifacts");
  const api::Backend backend_{.engine = &thread_,
                              .artifacts = artifacts_.get(),
                              .clock = &SystemClock(),
                              .random = &SystemRandom(),
                              .calls = &calls_,
                              .pool = &pool_};
  Trials trials_{backend_};
  Workers workers_{backend_};
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(ReactorTest, AStreamOut) {
  const auto stub = v1::TrialService::NewStub(channel_);
  grpc::ClientContext context;
  const auto reader = stub->DownloadArtifact(&context, v1::DownloadArtifactRequest());
  v1::DownloadArtifactResponse response;
  EXPECT_TRUE(reader->Read(&response));
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ReactorTest, AnAnswerFromElsewhere) {
  const auto stub = v1::WorkerService::NewStub(channel_);
  grpc::ClientContext first;
  v1::ListWorkersResponse workers;
  EXPECT_EQ(stub->ListWorkers(&first, v1::ListWorkersRequest(), &workers).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  grpc::ClientContext second;
  v1::Worker worker;
  const grpc::Status status = stub->DrainWorker(&second, v1::WorkerVerbRequest(), &worker);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), HasSubstr("a reason"));
}

TEST_F(ReactorTest, AnUpload) {
  // What protobuf makes once per process is there before memory fails: ThreadSanitizer's pthread_once never ends when
  // an exception leaves it.
  ASSERT_NE(v1::UploadArtifactRequest::descriptor(), nullptr);
  const auto stub = v1::WorkerService::NewStub(channel_);
  for (const int64_t n : {1, 2, 3, 4, 0}) {
    FailOnPool(n);
    grpc::ClientContext context;
    v1::UploadArtifactResponse response;
    const auto writer = stub->UploadArtifact(&context, &response);
    v1::UploadArtifactRequest header;
    header.mutable_header()->mutable_lease()->set_trial("sweeps/a-sweep-with-a-long-name/trials/1");
    header.mutable_header()->mutable_artifact()->set_name("samples-of-a-long-name.png");
    header.mutable_header()->mutable_artifact()->set_sha256(std::string(64, 'a'));
    writer->Write(header);
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    EXPECT_EQ(status.error_code(), n == 0 ? grpc::StatusCode::ABORTED : grpc::StatusCode::RESOURCE_EXHAUSTED)
        << n << ": " << status.error_message();
  }
}

}  // namespace
}  // namespace loupe::coordinator::rpc
