#include "worker/io/restricted_pickle.h"

#include <algorithm>
#include <bit>
#include <map>
#include <string>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker::io {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

PickleValue Of(Kind kind) {
  PickleValue value;
  value.kind = kind;
  return value;
}

PickleValue Integer(int64_t number) {
  PickleValue value = Of(Kind::kInteger);
  value.integer = number;
  return value;
}

PickleValue TextValue(std::string_view text, Kind kind = Kind::kText) {
  PickleValue value = Of(kind);
  value.text = text;
  return value;
}

// A global as Python would write it: "posix.system".
std::string DottedName(const PickleValue& global) {
  std::string name(global.text);
  std::replace(name.begin(), name.end(), '\n', '.');
  return name;
}

class PickleMachine {
 public:
  explicit PickleMachine(std::string_view bytes) : all_(bytes), rest_(bytes) {}

  absl::StatusOr<Pickle> Run() {
    constexpr int64_t kMostSteps = int64_t{1} << 22;
    for (int64_t step = 0;; ++step) {
      LOUPE_ASSIGN_OR_RETURN(const std::string_view code, Take(1));
      if (code[0] == '.') break;
      if (step == kMostSteps)
        return absl::InvalidArgumentError("the pickle takes more steps than any weights need; refused");
      if (absl::Status status = Execute(code[0]); !status.ok()) {
        return absl::InvalidArgumentError(
            fmt::format("pickle byte {}: {}", all_.size() - rest_.size(),
                        std::string_view(status.message().data(), status.message().size())));
      }
    }
    LOUPE_ASSIGN_OR_RETURN(pickle_.root, Pop());
    return std::move(pickle_);
  }
  std::string_view rest() const { return rest_; }

 private:
  absl::StatusOr<std::string_view> Take(size_t count) {
    if (rest_.size() < count) return absl::InvalidArgumentError("the pickle is cut off");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  PickleValue Container(Kind kind, Items items = {}) {
    PickleValue value = Of(kind);
    value.items = &pickle_.containers.emplace_back(std::move(items));
    return value;
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
    const PickleValue value = stack_.back();
    stack_.pop_back();
    return value;
  }
  absl::StatusOr<Items> PopToMark() {
    if (marks_.empty()) return absl::InvalidArgumentError("the pickle has no mark");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    Items items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  absl::Status Push(const PickleValue& value) {
    stack_.push_back(value);
    return absl::OkStatus();
  }
  absl::Status PushText(size_t length_bytes) {
    LOUPE_ASSIGN_OR_RETURN(const uint64_t length, TakeNumber(length_bytes));
    LOUPE_ASSIGN_OR_RETURN(const std::string_view text, Take(length));
    return Push(TextValue(text));
  }
  absl::Status PushTuple(size_t count) {
    Items items(count);
    for (size_t i = count; i-- > 0;) {
      LOUPE_ASSIGN_OR_RETURN(items[i], Pop());
    }
    return Push(Container(Kind::kTuple, std::move(items)));
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
  // Adds to the list (or the dictionary, as keys and values in turn) on top of the stack.
  absl::Status Extend(Kind kind, const Items& items) {
    if (stack_.empty() || stack_.back().kind != kind || (kind == Kind::kDictionary && items.size() % 2 != 0)) {
      return absl::InvalidArgumentError(kind == Kind::kList ? "expected a list" : "expected a dictionary");
    }
    stack_.back().items->insert(stack_.back().items->end(), items.begin(), items.end());
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
    if (callee.text == "collections\nOrderedDict" && given.empty()) return Push(Container(Kind::kDictionary));
    if (callee.text == "torch._utils\n_rebuild_tensor_v2" && given.size() >= 4 && given[0].kind == Kind::kStorage) {
      return Push(Container(Kind::kTensor, Items(given.begin(), given.begin() + 4)));
    }
    if (callee.text == "torch._utils\n_rebuild_parameter" && !given.empty() && given[0].kind == Kind::kTensor) {
      return Push(given[0]);
    }
    // Within a module's attributes; a list serves.
    const bool set = callee.text == "__builtin__\nset" || callee.text == "builtins\nset";
    if (set && (given.empty() || (given.size() == 1 && given[0].kind == Kind::kList))) {
      return Push(given.empty() ? Container(Kind::kList) : given[0]);
    }
    return absl::InvalidArgumentError(
        fmt::format("it wants to call '{}', which weights do not need; refused", DottedName(callee)));
  }

  // The only class there is: a dictionary of parameters, as former embeddings have it. Its content comes by BUILD.
  absl::Status NewObject() {
    LOUPE_RETURN_IF_ERROR(Pop().status());
    LOUPE_ASSIGN_OR_RETURN(const PickleValue type, Pop());
    if (type.kind == Kind::kGlobal && type.text == "torch.nn.modules.container\nParameterDict") {
      return Push(Container(Kind::kDictionary));
    }
    return absl::InvalidArgumentError(
        fmt::format("it wants to make a '{}', which weights do not need; refused", DottedName(type)));
  }

  // Attributes of an object. A ParameterDict's are its content; an OrderedDict's (a state_dict's _metadata) are of no
  // interest.
  absl::Status SetAttributes() {
    LOUPE_ASSIGN_OR_RETURN(const PickleValue state, Pop());
    if (stack_.empty() || stack_.back().kind != Kind::kDictionary) {
      return absl::InvalidArgumentError("it wants to set an object's attributes, which weights do not need; refused");
    }
    if (state.kind != Kind::kDictionary || !stack_.back().items->empty()) return absl::OkStatus();
    for (size_t i = 0; i < state.items->size(); i += 2) {
      const PickleValue &key = (*state.items)[i], &value = (*state.items)[i + 1];
      if (key.text == "_parameters" && value.kind == Kind::kDictionary) *stack_.back().items = *value.items;
    }
    return absl::OkStatus();
  }

  absl::Status Execute(char code);

  const std::string_view all_;
  std::string_view rest_;
  Pickle pickle_;
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
        return Push(value);
      });
    case 'X':  // BINUNICODE
      return PushText(4);
    case '\x8c':  // SHORT_BINUNICODE
    case 'U':     // SHORT_BINSTRING
      return PushText(1);
    case 'T':  // BINSTRING
      return PushText(4);
    case ')':  // EMPTY_TUPLE
      return Push(Container(Kind::kTuple));
    case '\x85':  // TUPLE1
      return PushTuple(1);
    case '\x86':  // TUPLE2
      return PushTuple(2);
    case '\x87':  // TUPLE3
      return PushTuple(3);
    case 't':  // TUPLE
      return with_items([&](Items items) { return Push(Container(Kind::kTuple, std::move(items))); });
    case ']':  // EMPTY_LIST
      return Push(Container(Kind::kList));
    case '}':  // EMPTY_DICT
      return Push(Container(Kind::kDictionary));
    case 'a': {  // APPEND
      LOUPE_ASSIGN_OR_RETURN(const PickleValue item, Pop());
      return Extend(Kind::kList, {item});
    }
    case 'e':  // APPENDS
      return with_items([&](const Items& items) { return Extend(Kind::kList, items); });
    case 's': {  // SETITEM
      LOUPE_ASSIGN_OR_RETURN(const PickleValue value, Pop());
      LOUPE_ASSIGN_OR_RETURN(const PickleValue key, Pop());
      return Extend(Kind::kDictionary, {key, value});
    }
    case 'u':  // SETITEMS
      return with_items([&](const Items& items) { return Extend(Kind::kDictionary, items); });
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
      return Push(TextValue({module.data(), module.size() + 1 + name.size()}, Kind::kGlobal));
    }
    case '\x93': {  // STACK_GLOBAL
      LOUPE_ASSIGN_OR_RETURN(const PickleValue name, Pop());
      LOUPE_ASSIGN_OR_RETURN(const PickleValue module, Pop());
      return Push(TextValue(pickle_.names.emplace_back(fmt::format("{}\n{}", module.text, name.text)), Kind::kGlobal));
    }
    case 'Q': {  // BINPERSID
      LOUPE_ASSIGN_OR_RETURN(const PickleValue id, Pop());
      if (id.kind != Kind::kTuple) return absl::InvalidArgumentError("expected a storage's id");
      PickleValue storage = Of(Kind::kStorage);
      storage.items = id.items;
      return Push(storage);
    }
    case 'R':  // REDUCE
      return Call();
    case 'b':  // BUILD
      return SetAttributes();
    case '\x81':  // NEWOBJ
      return NewObject();
    default:
      return absl::InvalidArgumentError(
          fmt::format("opcode 0x{:02x} is not one that weights need; refused", static_cast<unsigned char>(code)));
  }
}

}  // namespace

absl::StatusOr<Pickle> ReadPickle(std::string_view& bytes) {
  PickleMachine machine(bytes);
  LOUPE_ASSIGN_OR_RETURN(Pickle pickle, machine.Run());
  bytes = machine.rest();
  return pickle;
}

}  // namespace loupe::worker::io
