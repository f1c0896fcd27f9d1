// What the kernels of the card refuse although they are registered, read from their sources. A network that would fail
// on the card fails here, with the same sentence whoever runs it.
#pragma once

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "kernel_names.inc"
#include "paddle/phi/core/dense_tensor.h"
#include "paddle/phi/core/enforce.h"

namespace emulator {

inline void refuse_if(bool refused, const char* kernel, const char* reason) {
  PADDLE_ENFORCE_EQ(refused, false,
                    phi::errors::InvalidArgument("sdaa emulator: %s of the card refuses %s", kernel, reason));
}

// A kernel without limits. `arguments` are references to all that follow the context.
template <const char* Name>
struct Limits {
  template <typename Arguments>
  static void check(const Arguments&) {}
};

// At most so many dimensions in the first tensor.
template <const char* Name, int Most>
struct RankLimit {
  template <typename Arguments>
  static void check(const Arguments& arguments) {
    const std::string reason = "more than " + std::to_string(Most) + " dimensions";
    refuse_if(std::get<0>(arguments).dims().size() > Most, Name, reason.c_str());
  }
};

#define RANK_LIMIT(NAME, MOST) \
  template <>                  \
  struct Limits<name_##NAME> : RankLimit<name_##NAME, MOST> {}

RANK_LIMIT(equal, 4);
RANK_LIMIT(not_equal, 4);
RANK_LIMIT(less_than, 4);
RANK_LIMIT(less_equal, 4);
RANK_LIMIT(greater_than, 4);
RANK_LIMIT(greater_equal, 4);
RANK_LIMIT(topk, 4);
RANK_LIMIT(p_norm, 4);
RANK_LIMIT(prelu, 4);
RANK_LIMIT(expand, 6);
RANK_LIMIT(expand_as, 6);
RANK_LIMIT(transpose, 7);
RANK_LIMIT(batch_norm, 4);
RANK_LIMIT(batch_norm_grad, 4);
RANK_LIMIT(batch_norm_infer, 4);

#define LIMITS(NAME)             \
  template <>                    \
  struct Limits<name_##NAME> {   \
    template <typename Arguments> \
    static void check(const Arguments& arguments)

// ----------------------------------------------------------------------------------------------------- convolutions

inline bool uneven(const std::vector<int>& paddings) {  // {top, bottom, left, right}, or one for both sides
  return paddings.size() == 4 && (paddings[0] != paddings[1] || paddings[2] != paddings[3]);
}

// TensorFlow's SAME puts the odd one of an odd total behind the data.
inline bool uneven_same(const phi::DDim& input, const phi::DDim& filter, const std::vector<int>& strides) {
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t size = input[axis + 2], stride = strides[axis], kernel = filter[axis + 2];
    const int64_t total = std::max<int64_t>(((size + stride - 1) / stride - 1) * stride + kernel - size, 0);
    if (total % 2) return true;
  }
  return false;
}

inline void check_convolution(const char* kernel, const phi::DenseTensor& input, const phi::DenseTensor& filter,
                              const std::vector<int>& strides, const std::vector<int>& paddings,
                              const std::string& algorithm) {
  refuse_if(input.dims().size() != 4, kernel, "inputs that have not four dimensions");
  refuse_if(algorithm == "EXPLICIT" && uneven(paddings), kernel, "paddings that differ between the two sides");
  refuse_if(algorithm == "SAME" && uneven_same(input.dims(), filter.dims(), strides), kernel,
            "SAME where it pads one side more than the other");
}

// `First` is the place of the strides among the arguments: a gradient comes with one tensor more.
#define CONVOLUTION(NAME, FIRST)                                                                                   \
  LIMITS(NAME) {                                                                                                   \
    check_convolution(name_##NAME, std::get<0>(arguments), std::get<1>(arguments), std::get<FIRST>(arguments),     \
                      std::get<FIRST + 1>(arguments), std::get<FIRST + 2>(arguments));                             \
    refuse_if(std::get<FIRST + 4>(arguments) != 1, name_##NAME, "grouped convolutions");                           \
  }                                                                                                                \
  }

CONVOLUTION(conv2d, 2);
CONVOLUTION(conv2d_grad, 3);

#define DEPTHWISE_CONVOLUTION(NAME, FIRST)                                                                     \
  LIMITS(NAME) {                                                                                               \
    const phi::DenseTensor& input = std::get<0>(arguments);                                                    \
    check_convolution(name_##NAME, input, std::get<1>(arguments), std::get<FIRST>(arguments),                  \
                      std::get<FIRST + 1>(arguments), std::get<FIRST + 2>(arguments));                         \
    refuse_if(std::get<FIRST + 3>(arguments) != input.dims()[1], name_##NAME, "groups that are not the channels"); \
  }                                                                                                            \
  }

DEPTHWISE_CONVOLUTION(depthwise_conv2d, 2);

#define TRANSPOSED_CONVOLUTION(NAME, FIRST)                                                                        \
  LIMITS(NAME) {                                                                                                   \
    check_convolution(name_##NAME, std::get<0>(arguments), std::get<1>(arguments), std::get<FIRST>(arguments),     \
                      std::get<FIRST + 1>(arguments), std::get<FIRST + 4>(arguments));                             \
    refuse_if(std::get<FIRST + 5>(arguments) != 1, name_##NAME, "grouped convolutions");                           \
  }                                                                                                                \
  }

TRANSPOSED_CONVOLUTION(conv2d_transpose, 2);
TRANSPOSED_CONVOLUTION(conv2d_transpose_grad, 3);

// -------------------------------------------------------------------------------------------------------- recurrence

#define RECURRENCE(NAME, MODE)                                                                          \
  LIMITS(NAME) {                                                                                        \
    refuse_if(std::get<MODE>(arguments) != "LSTM", name_##NAME, "every mode but LSTM");                 \
    refuse_if(static_cast<bool>(std::get<3>(arguments)), name_##NAME, "a sequence length");             \
    refuse_if(std::get<MODE - 5>(arguments) != 0, name_##NAME, "dropout");                              \
    refuse_if(std::get<MODE + 2>(arguments), name_##NAME, "evaluation: it can only train");             \
  }                                                                                                     \
  }

RECURRENCE(rnn, 9);
RECURRENCE(rnn_grad, 14);

// ------------------------------------------------------------------------------------------------------------ others

LIMITS(dropout) {
  refuse_if(std::get<4>(arguments) != "upscale_in_train", name_dropout, "every mode but upscale_in_train");
}
};

LIMITS(gather_grad) {
  refuse_if(std::get<3>(arguments).template to<int>() != 0, name_gather_grad, "every axis but the first");
}
};

LIMITS(cumsum) {
  const bool integers = std::get<0>(arguments).dtype() == phi::DataType::INT64;
  refuse_if(integers && (std::get<3>(arguments) || std::get<4>(arguments)), name_cumsum, "exclusive or reverse int64");
}
};

LIMITS(scale) {
  const phi::DataType type = std::get<0>(arguments).dtype();
  const bool integers = type == phi::DataType::INT32 || type == phi::DataType::INT64;
  refuse_if(integers && std::get<2>(arguments).template to<double>() != 0, name_scale, "a bias for integers");
}
};

LIMITS(unsqueeze) {
  const std::size_t rank = std::get<0>(arguments).dims().size() + std::get<1>(arguments).GetData().size();
  refuse_if(rank > 6, name_unsqueeze, "results of more than 6 dimensions");
}
};

LIMITS(argsort) {
  const phi::DenseTensor& input = std::get<0>(arguments);
  const int64_t length = input.numel();
  const bool power = length >= 4096 && (length & (length - 1)) == 0;
  refuse_if(input.dims().size() != 1 || !power || !std::get<2>(arguments), name_argsort,
            "all but the descending order of one dimension whose length is a power of two from 4096 on");
}
};

#undef LIMITS
#undef RANK_LIMIT
#undef CONVOLUTION
#undef DEPTHWISE_CONVOLUTION
#undef TRANSPOSED_CONVOLUTION
#undef RECURRENCE

}  // namespace emulator
