// The few messages of tickwire's protocol that are understood, by scanning for what they hold.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <vector>

namespace messages {

// What follows `mark`; nothing if `text` does not hold it.
inline std::string_view after(std::string_view text, std::string_view mark) {
    auto at = text.find(mark);
    return at == text.npos ? std::string_view{} : text.substr(at + mark.size());
}

// What comes before the first `end`.
inline std::string_view until(std::string_view text, char end) {
    return text.substr(0, text.find(end));
}

inline bool is_operation(std::string_view message, std::string_view name) {
    return until(after(message, "\"op\":\""), '"') == name;
}

// The `id` of an operation; 0 if there is none.
inline uint64_t id(std::string_view message) {
    auto digits = after(message, "\"id\":");
    uint64_t id = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), id);
    return id;
}

// The symbols of a `subscribe`: every second piece between quotes; the others are commas.
inline std::vector<std::string_view> symbols(std::string_view message) {
    std::vector<std::string_view> symbols;
    auto list = until(after(message, "\"symbols\":["), ']');
    while (!(list = after(list, "\"")).empty()) {
        symbols.push_back(until(list, '"'));
        list.remove_prefix(std::min(list.size(), symbols.back().size() + 1));
    }
    return symbols;
}

// The symbol of a tick object.
inline std::string_view symbol(std::string_view tick) {
    return until(after(tick, "\"symbol\":\""), '"');
}

// Calls `each` with every tick object of a publisher's message. None of them holds a brace.
template <typename Each> void each_tick(std::string_view message, Each each) {
    size_t begin;
    while ((begin = message.find('{')) != message.npos) {
        auto end = message.find('}', begin);
        if (end == message.npos) {
            return;
        }
        each(message.substr(begin, end + 1 - begin));
        message.remove_prefix(end + 1);
    }
}

} // namespace messages
