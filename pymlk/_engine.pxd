# SPDX-License-Identifier: MIT
"""Extern declarations of kernel/engine/mlk_engine.h."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "mlk_engine.h" nogil:
    cdef struct mlk_header:
        uint32_t total_bytes
        uint64_t macs
        uint32_t arena_bytes
        uint32_t source_crc
        uint32_t names
        uint16_t n_tensors
        uint16_t n_ops
        uint16_t n_inputs
        uint16_t n_outputs
        uint16_t n_init_ops

    cdef struct mlk_tensor:
        uint8_t dtype
        uint8_t host_dtype
        uint8_t rank
        uint8_t flags
        uint32_t offset
        uint32_t bytes
        int32_t zero_point
        uint32_t scale
        uint32_t name
        uint32_t dims[6]

    cdef struct mlk_op:
        uint16_t opcode
        uint16_t source
        uint16_t operands "in" [4]

    cdef struct mlk_diag:
        int32_t reason
        int32_t op
        int32_t tensor

    cdef struct mlk_speed:
        uint32_t op_ps
        uint32_t mac_ps
        uint32_t item_ps

    cdef struct mlk_limits:
        uint32_t arena_bytes
        uint64_t macs
        uint64_t ns
        const mlk_speed *speed

    enum:
        MLK_FLOAT32
        MLK_INT16
        MLK_INT32
        MLK_INT64
        MLK_UINT8
        MLK_INT8
        MLK_PROGRAM_MAGIC
        MLK_PROGRAM_ALIGN
        MLK_ARENA_ALIGN

    int mlk_program_verify(
        const void *program, size_t bytes, const mlk_limits *limits, mlk_diag *diag
    )
    void mlk_program_reset(const void *program, void *arena)
    cdef struct mlk_simd:
        const char *name

    void mlk_program_run_simd(
        const void *program, void *arena, const mlk_simd *simd
    )
    void mlk_program_run_ops(
        const void *program,
        void *arena,
        uint32_t first,
        uint32_t end,
        const mlk_simd *simd,
    )
    uint64_t mlk_program_op_macs(const void *program, uint32_t op)
    uint64_t mlk_program_cost(const void *program, const mlk_speed *speed)
    const void *mlk_program_next(const void *program, size_t bytes)
    const void *mlk_program_find(
        const void *file, size_t bytes, const char *name
    )
    const char *mlk_program_name(const mlk_header *h)
    const char *mlk_reason_text(int reason)
    const mlk_tensor *mlk_tensor_at(const mlk_header *h, uint32_t i)
    const mlk_op *mlk_op_at(const mlk_header *h, uint32_t i)
    const mlk_tensor *mlk_input_at(const mlk_header *h, uint32_t i)
    const mlk_tensor *mlk_output_at(const mlk_header *h, uint32_t i)


cdef extern from "mlk_arch.h" nogil:
    int mlk_arch_find(const char *name, const mlk_simd **simd)
    const char *mlk_arch_name(unsigned int i)
