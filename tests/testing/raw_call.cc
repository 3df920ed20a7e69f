#include "tests/testing/raw_call.h"

#include <grpcpp/generic/generic_stub.h>

#include <chrono>

namespace loupe::testing {

std::string ToString(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  buffer.Dump(&slices).ok();
  std::string bytes;
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

grpc::ByteBuffer ToByteBuffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

RawAnswer RawExchange(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                      grpc::ClientContext& context, const std::vector<std::string>& messages) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  const auto call = stub.PrepareCall(&context, "/" + method, &queue);
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  for (size_t i = 0; ok && i < messages.size(); ++i) {
    if (i + 1 < messages.size()) {
      call->Write(ToByteBuffer(messages[i]), nullptr);
    } else {
      call->WriteLast(ToByteBuffer(messages[i]), grpc::WriteOptions(), nullptr);
    }
    queue.Next(&tag, &ok);
  }
  RawAnswer answer;
  for (;;) {
    grpc::ByteBuffer message;
    call->Read(&message, nullptr);
    queue.Next(&tag, &ok);
    if (!ok) break;
    answer.messages.push_back(ToString(message));
  }
  call->Finish(&answer.status, nullptr);
  queue.Next(&tag, &ok);
  return answer;
}

grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const std::string& token,
                     const std::vector<std::string>& messages, absl::Duration deadline) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(deadline));
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  return RawExchange(channel, method, context, messages).status;
}

}  // namespace loupe::testing
