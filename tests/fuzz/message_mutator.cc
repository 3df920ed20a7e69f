#include "tests/fuzz/message_mutator.h"

#include <array>
#include <limits>

namespace loupe::fuzz {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr int kMaxDepth = 6;

}  // namespace

void MessageMutator::Change(Message& message, int depth) {
  const auto* descriptor = message.GetDescriptor();
  if (descriptor->field_count() == 0) return;
  const FieldDescriptor& field =
      *descriptor->field(static_cast<int>(random_() % static_cast<uint64_t>(descriptor->field_count())));
  const Reflection& reflection = *message.GetReflection();
  const int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 0;
  // Into a message that is there, more often than anything else: most of the fields are further down.
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && depth < kMaxDepth && random_() % 3 != 0) {
    if (count > 0) {
      return Change(*reflection.MutableRepeatedMessage(&message, &field,
                                                       static_cast<int>(random_() % static_cast<uint64_t>(count))),
                    depth + 1);
    }
    if (!field.is_repeated()) return Change(*reflection.MutableMessage(&message, &field), depth + 1);
  }
  switch (random_() % 8) {
    case 0:
      reflection.ClearField(&message, &field);
      break;
    case 1:
      if (count > 0) reflection.RemoveLast(&message, &field);
      break;
    case 2:
      if (count > 1) reflection.SwapElements(&message, &field, 0, count - 1);
      break;
    default:
      if (field.is_repeated()) {
        AddToField(message, field, depth);
      } else {
        SetField(message, field, depth);
      }
  }
}

void MessageMutator::SetField(Message& message, const FieldDescriptor& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      reflection.SetInt32(&message, &field, static_cast<int32_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      reflection.SetInt64(&message, &field, Number());
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      reflection.SetUInt32(&message, &field, static_cast<uint32_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      reflection.SetUInt64(&message, &field, static_cast<uint64_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      reflection.SetDouble(&message, &field, Real());
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
      reflection.SetFloat(&message, &field, static_cast<float>(Real()));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection.SetBool(&message, &field, random_() % 2 == 0);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      reflection.SetEnumValue(&message, &field, static_cast<int>(random_() % 12) - 2);
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.SetString(&message, &field, Text());
      break;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      Change(*reflection.MutableMessage(&message, &field), depth + 1);
      break;
  }
}

void MessageMutator::AddToField(Message& message, const FieldDescriptor& field, int depth) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      reflection.AddInt32(&message, &field, static_cast<int32_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      reflection.AddInt64(&message, &field, Number());
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      reflection.AddUInt32(&message, &field, static_cast<uint32_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      reflection.AddUInt64(&message, &field, static_cast<uint64_t>(Number()));
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      reflection.AddDouble(&message, &field, Real());
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
      reflection.AddFloat(&message, &field, static_cast<float>(Real()));
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      reflection.AddBool(&message, &field, random_() % 2 == 0);
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      reflection.AddEnumValue(&message, &field, static_cast<int>(random_() % 12) - 2);
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.AddString(&message, &field, Text());
      break;
    case FieldDescriptor::CPPTYPE_MESSAGE: {
      Message* added = reflection.AddMessage(&message, &field);
      for (int i = 0; i < 3; ++i) Change(*added, depth + 1);
      break;
    }
  }
}

int64_t MessageMutator::Number() {
  static constexpr std::array<int64_t, 14> kNumbers = {0,
                                                       1,
                                                       2,
                                                       -1,
                                                       100,
                                                       1000,
                                                       4096,
                                                       1 << 20,
                                                       std::numeric_limits<int32_t>::max(),
                                                       std::numeric_limits<int32_t>::min(),
                                                       int64_t{1} << 40,
                                                       -(int64_t{1} << 40),
                                                       std::numeric_limits<int64_t>::max(),
                                                       std::numeric_limits<int64_t>::min()};
  return random_() % 3 == 0 ? static_cast<int64_t>(random_() % 20) : kNumbers[random_() % kNumbers.size()];
}

double MessageMutator::Real() {
  static constexpr std::array<double, 9> kNumbers = {0,
                                                     -0.0,
                                                     1,
                                                     -1,
                                                     1e308,
                                                     -1e308,
                                                     std::numeric_limits<double>::infinity(),
                                                     5e-324,
                                                     std::numeric_limits<double>::quiet_NaN()};
  return kNumbers[random_() % kNumbers.size()];
}

std::string MessageMutator::Text() {
  if (random_() % 4 != 0) return words_[random_() % words_.size()];
  // proto3 text is UTF-8: anything else would not even be parsed.
  static constexpr std::array<const char*, 12> kPieces = {"a", "/", "..", "\n", "é", "😀",
                                                          "%", "'", "\"", "0",  " ", "\x01"};
  std::string text;
  for (uint64_t i = random_() % 12; i > 0; --i) text += kPieces[random_() % kPieces.size()];
  return random_() % 20 == 0 ? std::string(5000, 'x') + text : text;
}

}  // namespace loupe::fuzz
