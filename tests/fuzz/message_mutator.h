// Changes protobuf messages field by field, so that most of what comes out still parses and reaches the code behind.
#pragma once

#include <google/protobuf/message.h>

#include <random>
#include <string>
#include <vector>

namespace loupe::fuzz {

class MessageMutator {
 public:
  // `words` are inserted as text beside random text: names that exist, keys, tokens.
  MessageMutator(unsigned seed, std::vector<std::string> words) : random_(seed), words_(std::move(words)) {}

  // One change somewhere in the message or below.
  void Change(google::protobuf::Message& message, int depth = 0);

 private:
  void SetField(google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field, int depth);
  void AddToField(google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field, int depth);
  int64_t Number();
  double Real();
  std::string Text();

  std::mt19937_64 random_;
  const std::vector<std::string> words_;
};

}  // namespace loupe::fuzz
