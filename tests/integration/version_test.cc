// Worker and coordinator of different versions: messages on the wire that have more or less in them than this program
// writes.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/dynamic_message.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <set>
#include <thread>

#include "loupe/v1/worker.grpc.pb.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/rewriting_proxy.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

namespace pb = google::protobuf;

// The message of a call, parsed, given to `change` with every message inside it, and serialised again.
std::string Changed(const std::string& method, bool is_request, const std::string& bytes,
                    const std::function<void(pb::Message&)>& change) {
  std::string name = method;
  std::replace(name.begin(), name.end(), '/', '.');
  const pb::MethodDescriptor* descriptor = pb::DescriptorPool::generated_pool()->FindMethodByName(name);
  if (descriptor == nullptr) return bytes;
  const std::unique_ptr<pb::Message> message(
      pb::MessageFactory::generated_factory()
          ->GetPrototype(is_request ? descriptor->input_type() : descriptor->output_type())
          ->New());
  EXPECT_TRUE(message->ParseFromString(bytes)) << method;
  const std::function<void(pb::Message&)> visit = [&](pb::Message& part) {
    const pb::Reflection& reflection = *part.GetReflection();
    std::vector<const pb::FieldDescriptor*> fields;
    reflection.ListFields(part, &fields);
    for (const pb::FieldDescriptor* field : fields) {
      if (field->cpp_type() != pb::FieldDescriptor::CPPTYPE_MESSAGE || field->is_map()) continue;
      if (!field->is_repeated()) {
        visit(*reflection.MutableMessage(&part, field));
        continue;
      }
      for (int i = 0; i < reflection.FieldSize(part, field); ++i)
        visit(*reflection.MutableRepeatedMessage(&part, field, i));
    }
    change(part);
  };
  visit(*message);
  return message->SerializeAsString();
}

// Fields of every wire type under numbers that no version so far has used.
void AddUnknownFields(pb::Message& message) {
  pb::UnknownFieldSet& fields = *message.GetReflection()->MutableUnknownFields(&message);
  fields.AddVarint(1000, 7);
  fields.AddFixed32(1001, 7);
  fields.AddFixed64(1002, 7);
  fields.AddLengthDelimited(1003, std::string(100, '\xff'));
  fields.AddGroup(1004)->AddVarint(1, 7);
}

// What a program that is older than these fields leaves out. Not among them: what the protocol has always stood on.
void RemoveFields(pb::Message& message, const std::set<std::string>& names) {
  std::vector<const pb::FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const pb::FieldDescriptor* field : fields) {
    if (names.contains(field->full_name())) message.GetReflection()->ClearField(&message, field);
  }
}

class VersionTest : public ProcessTest {
 protected:
  // A sweep whose workers talk to the coordinator through the change.
  void RunThrough(const std::function<void(bool is_request, pb::Message&)>& change) {
    StartCoordinator();
    std::atomic<int> changed = 0;
    testing::RewritingProxy proxy(
        coordinator_->Connect()->channel(), [&](const std::string& method, bool is_request, const std::string& bytes) {
          ++changed;
          return Changed(method, is_request, bytes, [&](pb::Message& message) { change(is_request, message); });
        });
    const v1::SweepSpec spec = testing::SmallSpec(4, 1);
    Create("versions", spec);
    std::vector<std::unique_ptr<ChildProcess>> workers(2);
    for (int i = 0; i < 2; ++i) workers[static_cast<size_t>(i)] = StartWorker(i, 0.05, proxy.address());
    ASSERT_TRUE(WaitUntilCompleted("versions", 60));
    EXPECT_EQ(Get("versions")->counts().succeeded(), 12);
    EXPECT_GT(changed, 12) << "nothing went through the proxy";
    workers.clear();
    ExpectSameAsCleanRun("versions", spec);
  }
};

TEST_F(VersionTest, AWorkerOfANewerVersionWithFieldsThatTheCoordinatorDoesNotKnow) {
  RunThrough([](bool is_request, pb::Message& message) {
    if (is_request) AddUnknownFields(message);
  });
}

TEST_F(VersionTest, ACoordinatorOfANewerVersionWithFieldsThatTheWorkerDoesNotKnow) {
  RunThrough([](bool is_request, pb::Message& message) {
    if (!is_request) AddUnknownFields(message);
  });
}

TEST_F(VersionTest, AWorkerOfAnOlderVersionThatLeavesOutWhatCameLater) {
  RunThrough([](bool is_request, pb::Message& message) {
    if (!is_request) return;
    RemoveFields(message, {"loupe.v1.SynchronizeRequest.description", "loupe.v1.SynchronizeRequest.draining",
                           "loupe.v1.SynchronizeRequest.max_wait", "loupe.v1.AttemptReport.phase",
                           "loupe.v1.AttemptReport.step", "loupe.v1.AttemptReport.total_steps",
                           "loupe.v1.AttemptReport.points", "loupe.v1.AttemptReport.point_sequence",
                           "loupe.v1.Success.train_seconds", "loupe.v1.Artifact.media_type"});
  });
}

TEST_F(VersionTest, ACoordinatorOfAnOlderVersionThatLeavesOutWhatCameLater) {
  RunThrough([](bool is_request, pb::Message& message) {
    if (is_request) return;
    RemoveFields(message, {"loupe.v1.SynchronizeResponse.next_sync_after", "loupe.v1.SynchronizeResponse.draining",
                           "loupe.v1.AttemptVerdict.lease", "loupe.v1.UploadArtifactResponse.artifact"});
  });
}

TEST_F(VersionTest, AFailureOfAClassThatTheCoordinatorDoesNotKnowIsTriedAgain) {
  StartCoordinator();
  std::atomic<int> failures = 0;
  testing::RewritingProxy proxy(coordinator_->Connect()->channel(),
                                [&](const std::string& method, bool is_request, const std::string& bytes) {
                                  return Changed(method, is_request, bytes, [&](pb::Message& message) {
                                    if (!is_request || message.GetDescriptor()->full_name() != "loupe.v1.AttemptReport")
                                      return;
                                    auto& report = dynamic_cast<v1::AttemptReport&>(message);
                                    // The first attempt of each trial fails in a way that only a newer version can
                                    // name.
                                    if (!report.has_success() || report.lease().epoch() > 1) return;
                                    report.mutable_failure()->set_class_(static_cast<v1::Failure::Class>(99));
                                    report.mutable_failure()->set_message("a new kind of failure");
                                    ++failures;
                                  });
                                });
  const v1::SweepSpec spec = testing::SmallSpec(1, 2);
  Create("failing", spec);
  std::unique_ptr<ChildProcess> worker = StartWorker(0, 0, proxy.address());
  ASSERT_TRUE(WaitUntilCompleted("failing", 60));
  EXPECT_GE(failures, 6);
  EXPECT_EQ(Get("failing")->counts().succeeded(), 6);
  for (const v1::Trial& trial : Trials("failing")) EXPECT_EQ(trial.attempts(), 2) << trial.name();
  worker.reset();
  ExpectSameAsCleanRun("failing", spec);
}

// A worker that is killed between its request and the answer.
TEST_F(VersionTest, TheProxyEndsThoughAClientWentBeforeItsAnswer) {
  StartCoordinator();
  std::promise<void> answered;
  std::promise<void> gone;
  testing::RewritingProxy proxy(coordinator_->Connect()->channel(),
                                [&](const std::string&, bool is_request, const std::string& bytes) {
                                  if (is_request) return bytes;
                                  answered.set_value();
                                  gone.get_future().wait();
                                  Pause(0.3);  // until the proxy knows
                                  return bytes;
                                });
  const auto connection = clients::rpc::Connection::Open(
      *clients::rpc::ResolveConnectOptions({.address = proxy.address(), .token_file = coordinator_->token_file()}));
  ASSERT_TRUE(connection.ok()) << connection.status();
  grpc::ClientContext context;
  (*connection)->Prepare(context);
  std::thread client([&] {
    v1::ListSweepsResponse response;
    EXPECT_EQ(v1::SweepService::NewStub((*connection)->channel())->ListSweeps(&context, {}, &response).error_code(),
              grpc::StatusCode::CANCELLED);
  });
  answered.get_future().wait();
  context.TryCancel();
  client.join();
  gone.set_value();
}

}  // namespace
}  // namespace loupe
