"""The stages of segment_volume, in the order in which they run.

plan       all checks, before anything is written
survey     every slice read once, so that what is broken shows before hours of work
infer      probabilities of the classes: mean and standard deviation of an ensemble
decide     label and conformal sets, from the probabilities as stored
number     instances, in the store
measure    the table of instances, beside it
"""
