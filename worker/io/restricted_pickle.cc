#include "worker/io/restricted_pickle.h"

#include <bit>
#include <cstring>
#include <map>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

PickleValue Of(Kind kind) {
  PickleValue value;
  value.kind = kind;
  if (kind == Kind::kTuple || kind == Kind::kList) value.items = std::make_shared<Items>();
  if (kind == Kind::kDictionary) value.entries = std::make_shared<std::vector<std::pair<PickleValue, PickleValue>>>();
  return value;
}

PickleValue Integer(int64_t number) {
  PickleValue value = Of(Kind::kInteger);
  value.integer = number;
  return value;
}

PickleValue TextValue(std::string_view text, Kind kind = Kind::kText) {
  PickleValue value = Of(kind);
  value.text = std::string(text);
  return value;
}

class PickleMachine {
 public:
  explicit PickleMachine(std::string_view bytes) : all_(bytes), rest_(bytes) {}

  absl::StatusOr<PickleValue> Run() {
    while (true) {
      LOUPE_ASSIGN_OR_RETURN(const std::string_view code, Take(1));
      if (code[0] == '.') break;
      if (absl::Status status = Execute(code[0]); !status.ok()) {
        return absl::InvalidArgumentError(
            fmt::format("pickle byte {}: {}", all_.size() - rest_.size(),
                        std::string_view(status.message().data(), status.message().size())));
      }
    }
    return Pop();
  }
  std::string_view rest() const { return rest_; }

 private:
  absl::StatusOr<std::string_view> Take(size_t count) {
    if (rest_.size() < count) return absl::InvalidArgumentError("the pickle is cut off");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  absl::StatusOr<uint64_t> TakeNumber(size_t bytes) {
    LOUPE_ASSIGN_OR_RETURN(const std::string_view taken, Take(bytes));
    uint64_t number = 0;
    for (size_t i = bytes; i-- > 0;) number = number << 8 | static_cast<unsigned char>(taken[i]);
    return number;
  }
  absl::StatusOr<std::string_view> TakeLine() {
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) return absl::InvalidArgumentError("the pickle is cut off");
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return line;
  }
  absl::StatusOr<PickleValue> Pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back())) {
      return absl::InvalidArgumentError("the pickle takes from an empty stack");
    }
    PickleValue value = std::move(stack_.back());
    stack_.pop_back();
    return value;
  }
  absl::StatusOr<Items> PopToMark() {
    if (marks_.empty()) return absl::InvalidArgumentError("the pickle has no mark");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    Items items(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  absl::Status Push(PickleValue value) {
    stack_.push_back(std::move(value));
    return absl::OkStatus();
  }
  absl::Status PushText(size_t length_bytes) {
    LOUPE_ASSIGN_OR_RETURN(const uint64_t length, TakeNumber(length_bytes));
    LOUPE_ASSIGN_OR_RETURN(const std::string_view text, Take(length));
    return Push(TextValue(text));
  }
  absl::Status PushTuple(size_t count) {
    PickleValue tuple = Of(Kind::kTuple);
    tuple.items->resize(count);
    for (size_t i = count; i-- > 0;) {
      LOUPE_ASSIGN_OR_RETURN((*tuple.items)[i], Pop());
    }
    return Push(std::move(tuple));
  }
  // Python's LONG: little-endian two's complement.
  absl::Status PushLong(size_t bytes) {
    if (bytes > 8) {
      // torch's magic number has ten bytes; its value is not needed.
      LOUPE_RETURN_IF_ERROR(Take(bytes).status());
      return Push(Integer(-1));
    }
    LOUPE_ASSIGN_OR_RETURN(uint64_t number, TakeNumber(bytes));
    const auto bits = static_cast<unsigned>(8 * bytes);
    if (bytes > 0 && bytes < 8 && (number >> (bits - 1) & 1) != 0) number |= ~uint64_t{0} << bits;
    return Push(Integer(static_cast<int64_t>(number)));
  }
  absl::Status Remember(uint64_t key) {
    if (stack_.empty()) return absl::InvalidArgumentError("the pickle remembers nothing");
    memo_[key] = stack_.back();
    return absl::OkStatus();
  }
  absl::Status Recall(uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) return absl::InvalidArgumentError("the pickle recalls what it never remembered");
    return Push(found->second);
  }
  absl::Status AppendAll(Items items) {
    if (stack_.empty() || stack_.back().kind != Kind::kList) return absl::InvalidArgumentError("expected a list");
    for (PickleValue& item : items) stack_.back().items->push_back(std::move(item));
    return absl::OkStatus();
  }
  absl::Status SetAll(Items items) {
    if (stack_.empty() || stack_.back().kind != Kind::kDictionary || items.size() % 2 != 0) {
      return absl::InvalidArgumentError("expected a dictionary");
    }
    for (size_t i = 0; i < items.size(); i += 2) {
      stack_.back().entries->emplace_back(std::move(items[i]), std::move(items[i + 1]));
    }
    return absl::OkStatus();
  }

  // The only calls there are.
  absl::Status Call() {
    LOUPE_ASSIGN_OR_RETURN(const PickleValue arguments, Pop());
    LOUPE_ASSIGN_OR_RETURN(const PickleValue callee, Pop());
    if (callee.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) {
      return absl::InvalidArgumentError("expected a call of a named function");
    }
    const Items& given = *arguments.items;
    if (callee.text == "collections OrderedDict" && given.empty()) return Push(Of(Kind::kDictionary));
    if (callee.text == "torch._utils _rebuild_tensor_v2" && given.size() >= 4 && given[0].kind == Kind::kStorage) {
      PickleValue tensor = Of(Kind::kTensor);
      tensor.items = std::make_shared<Items>(given.begin(), given.begin() + 4);
      return Push(std::move(tensor));
    }
    if (callee.text == "torch._utils _rebuild_parameter" && !given.empty() && given[0].kind == Kind::kTensor) {
      return Push(given[0]);
    }
    return absl::InvalidArgumentError(
        fmt::format("it wants to call '{}', which weights do not need; refused", callee.text));
  }

  absl::Status Execute(char code);

  const std::string_view all_;
  std::string_view rest_;
  Items stack_;
  std::vector<size_t> marks_;
  std::map<uint64_t, PickleValue> memo_;
};

// The opcodes by their names in Python's pickletools.
absl::Status PickleMachine::Execute(char code) {
  const auto with_number = [&](size_t bytes, auto&& use) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(bytes));
    return use(number);
  };
  const auto with_items = [&](auto&& use) -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(Items items, PopToMark());
    return use(std::move(items));
  };
  switch (code) {
    case '\x80':  // PROTO
      return with_number(1, [](uint64_t version) {
        return version <= 4 ? absl::OkStatus() : absl::InvalidArgumentError("a pickle of a later protocol than 4");
      });
    case '\x95':  // FRAME
      return Take(8).status();
    case '(':  // MARK
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case 'N':  // NONE
      return Push(Of(Kind::kNone));
    case '\x88':  // NEWTRUE
      return Push(Integer(1));
    case '\x89':  // NEWFALSE
      return Push(Integer(0));
    case 'K':  // BININT1
      return with_number(1, [&](uint64_t n) { return Push(Integer(static_cast<int64_t>(n))); });
    case 'M':  // BININT2
      return with_number(2, [&](uint64_t n) { return Push(Integer(static_cast<int64_t>(n))); });
    case 'J':  // BININT
      return with_number(4, [&](uint64_t n) { return Push(Integer(static_cast<int32_t>(n))); });
    case '\x8a':  // LONG1
      return with_number(1, [&](uint64_t n) { return PushLong(n); });
    case 'G':  // BINFLOAT, big-endian
      return with_number(8, [&](uint64_t n) {
        PickleValue value = Of(Kind::kReal);
        value.real = std::bit_cast<double>(__builtin_bswap64(n));
        return Push(std::move(value));
      });
    case 'X':  // BINUNICODE
      return PushText(4);
    case '\x8c':  // SHORT_BINUNICODE
    case 'U':     // SHORT_BINSTRING
      return PushText(1);
    case 'T':  // BINSTRING
      return PushText(4);
    case ')':  // EMPTY_TUPLE
      return Push(Of(Kind::kTuple));
    case '\x85':  // TUPLE1
      return PushTuple(1);
    case '\x86':  // TUPLE2
      return PushTuple(2);
    case '\x87':  // TUPLE3
      return PushTuple(3);
    case 't':  // TUPLE
      return with_items([&](Items items) {
        PickleValue tuple = Of(Kind::kTuple);
        *tuple.items = std::move(items);
        return Push(std::move(tuple));
      });
    case ']':  // EMPTY_LIST
      return Push(Of(Kind::kList));
    case '}':  // EMPTY_DICT
      return Push(Of(Kind::kDictionary));
    case 'a': {  // APPEND
      LOUPE_ASSIGN_OR_RETURN(PickleValue item, Pop());
      return AppendAll({std::move(item)});
    }
    case 'e':  // APPENDS
      return with_items([&](Items items) { return AppendAll(std::move(items)); });
    case 's': {  // SETITEM
      LOUPE_ASSIGN_OR_RETURN(PickleValue value, Pop());
      LOUPE_ASSIGN_OR_RETURN(PickleValue key, Pop());
      return SetAll({std::move(key), std::move(value)});
    }
    case 'u':  // SETITEMS
      return with_items([&](Items items) { return SetAll(std::move(items)); });
    case 'q':  // BINPUT
      return with_number(1, [&](uint64_t n) { return Remember(n); });
    case 'r':  // LONG_BINPUT
      return with_number(4, [&](uint64_t n) { return Remember(n); });
    case '\x94':  // MEMOIZE
      return Remember(memo_.size());
    case 'h':  // BINGET
      return with_number(1, [&](uint64_t n) { return Recall(n); });
    case 'j':  // LONG_BINGET
      return with_number(4, [&](uint64_t n) { return Recall(n); });
    case 'c': {  // GLOBAL: only named here; see Call
      LOUPE_ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
      LOUPE_ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
      return Push(TextValue(fmt::format("{} {}", module, name), Kind::kGlobal));
    }
    case 'Q': {  // BINPERSID
      LOUPE_ASSIGN_OR_RETURN(const PickleValue id, Pop());
      if (id.kind != Kind::kTuple) return absl::InvalidArgumentError("expected a storage's id");
      PickleValue storage = Of(Kind::kStorage);
      storage.items = id.items;
      return Push(std::move(storage));
    }
    case 'R':  // REDUCE
      return Call();
    case 'b': {  // BUILD: an OrderedDict's attributes (state_dict's _metadata), of no interest
      LOUPE_RETURN_IF_ERROR(Pop().status());
      if (stack_.empty() || stack_.back().kind != Kind::kDictionary) {
        return absl::InvalidArgumentError("it wants to set an object's attributes, which weights do not need; refused");
      }
      return absl::OkStatus();
    }
    default:
      return absl::InvalidArgumentError(
          fmt::format("opcode 0x{:02x} is not one that weights need; refused", static_cast<unsigned char>(code)));
  }
}

}  // namespace

absl::StatusOr<PickleValue> ReadPickle(std::string_view& bytes) {
  PickleMachine machine(bytes);
  LOUPE_ASSIGN_OR_RETURN(PickleValue value, machine.Run());
  bytes = machine.rest();
  return value;
}

}  // namespace loupe::worker
